"""Everything of the process that a library could leave changed behind it."""

from __future__ import annotations

import copyreg
import dataclasses
import gc
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.modules.module as modules
from torch import nn
from torch._dynamo import eval_frame  # its import changes the process, and is torch's own
from torch.nn.utils import parametrize
from torch.overrides import _get_current_function_mode_stack
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

BACKENDS: dict[str, Callable[[], Any]] = {
    "cudnn": lambda: [
        getattr(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic", "allow_tf32")
    ],
    "mkldnn": lambda: torch.backends.mkldnn.enabled,
    "fast path": torch.backends.mha.get_fastpath_enabled,
    "attention": lambda: [
        torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.mem_efficient_sdp_enabled(),
        torch.backends.cuda.math_sdp_enabled(),
    ],
    "matmul": torch.get_float32_matmul_precision,
    "deterministic": lambda: [
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    ],
    "threads": torch.get_num_threads,
}

STATE: dict[str, Callable[[], Any]] = {
    **BACKENDS,
    "global hooks and their flags": lambda: {
        name: dict(value) if isinstance(value, dict) else value
        for name, value in vars(modules).items()
        if name.startswith("_global_")
    },
    "function modes": lambda: [type(mode).__name__ for mode in _get_current_function_mode_stack()],
    "dispatch modes": lambda: [type(mode).__name__ for mode in _get_current_dispatch_mode_stack()],
    "gradients": lambda: [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()],
    "defaults": lambda: [torch.get_default_dtype(), torch.get_default_device()],
    "autocast": lambda: (
        [(torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda")]
        + [torch.is_autocast_cache_enabled()]
    ),
    "random numbers of torch": lambda: torch.get_rng_state().tolist(),
    "random numbers of NumPy": lambda: [np.asarray(part).tolist() for part in np.random.get_state()],
    "random numbers of Python": random.getstate,
    "NumPy": np.geterr,
    "warnings": lambda: list(warnings.filters),
    "cached parametrizations": lambda: [parametrize._cache_enabled, dict(parametrize._cache)],
    "compiler": lambda: dataclasses.astuple(eval_frame._stance),  # type: ignore[attr-defined]
    "containers known to torch": lambda: set(pytree.SUPPORTED_NODES),
    "classes": lambda: [set(vars(kind)) for kind in (torch.Tensor, nn.Module, nn.Linear, nn.Parameter)],
    "functions of torch": lambda: [dict(vars(m)) for m in (nn.functional, nn.init)],
    "copying": lambda: [set(copyreg.dispatch_table)],
    "printing": lambda: vars(torch._tensor_str.PRINT_OPTS).copy(),  # type: ignore[attr-defined]
    "logging": lambda: [logging.getLogger().level, list(logging.getLogger().handlers)],
    "system": lambda: [os.getcwd(), dict(os.environ) | {"PYTEST_CURRENT_TEST": ""}, threading.active_count()],  # noqa: PTH109
    "interpreter": lambda: [list(sys.path), sys.excepthook, gc.isenabled(), signal.getsignal(signal.SIGINT)],
}


def snapshot() -> dict[str, Any]:
    """Of everything in STATE."""
    return {name: look() for name, look in STATE.items()}


def changed(before: Mapping[str, Any]) -> list[str]:
    """The names of what is no longer as it was."""
    return [name for name, value in snapshot().items() if value != before[name]]
