"""State that the whole process shares: global hooks, random generators, inference mode. All of it is restored."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch.nn.modules import module as modules

F = TypeVar("F", bound="Callable[..., Any]")


@contextmanager
def every_module_hooked(enter: Callable[..., Any], leave: Callable[..., Any]) -> Iterator[None]:
    """Call `enter(module, args)` and `leave(module, args, kwargs, output)` around module calls within this context.

    The hooks are global, so the hooks of the modules themselves stay unchanged.
    """
    before = modules.register_module_forward_pre_hook(enter)
    after = modules.register_module_forward_hook(leave, with_kwargs=True)
    try:
        yield
    finally:
        before.remove()
        after.remove()
        modules._global_forward_hooks_with_kwargs.pop(after.id, None)  # `remove` forgets it, up to torch 2.14


@contextmanager
def same_random_numbers(devices: Iterable[torch.device | int] = ()) -> Iterator[None]:
    """Restore the state of the random generators on exit, so that random numbers may be drawn within this context.

    That covers the generators of Python, NumPy and torch (on the CPU and on `devices`).
    """
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=list(devices)):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def trainable(function: F) -> F:
    """Let a public function called under `torch.inference_mode` make ordinary tensors, which can be trained later."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_inference_mode_enabled():
            return function(*args, **kwargs)
        with torch.inference_mode(False), torch.no_grad():  # inference_mode(False) alone would enable gradients
            return function(*args, **kwargs)

    return called  # type: ignore[return-value]
