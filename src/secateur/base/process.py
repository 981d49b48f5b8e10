"""What the whole process shares: global hooks, random generators, inference mode. Our calls leave it as found."""

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
    """Within, `enter(module, args)` and `leave(module, args, kwargs, output)` are called around every call of a module.

    The hooks are the process', so the modules' own stay as they are.
    """
    before = modules.register_module_forward_pre_hook(enter)
    after = modules.register_module_forward_hook(leave, with_kwargs=True)
    try:
        yield
    finally:
        before.remove()
        after.remove()
        modules._global_forward_hooks_with_kwargs.pop(after.id, None)  # which its handle forgets, at least up to 2.14


@contextmanager
def same_random_numbers(devices: Iterable[torch.device | int] = ()) -> Iterator[None]:
    """Whatever is drawn within, the generators of torch (on the CPU and on these devices), NumPy and Python go on from
    where they were."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=list(devices)):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def trainable(function: F) -> F:
    """Let a public call run under `torch.inference_mode` as it does under `torch.no_grad`: what tensors it makes can be
    trained later."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_inference_mode_enabled():
            return function(*args, **kwargs)
        with torch.inference_mode(False), torch.no_grad():  # leaving the one alone would turn gradients on
            return function(*args, **kwargs)

    return called  # type: ignore[return-value]
