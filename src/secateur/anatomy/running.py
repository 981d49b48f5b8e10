"""What training and evaluation share: calling a model on a batch, and restoring modes and random generators."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur.base.process import same_random_numbers


@contextlib.contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Set `model` to training or evaluation mode within this context; every module gets its own mode back."""
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, was in before.items():
            module.training = was


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the random generators of torch, NumPy and Python within this context, and restore them on exit."""
    with same_random_numbers(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        yield


def call(model: nn.Module, inputs: Any) -> Any:
    """Return the output for one batch of inputs: a tensor, a tuple of arguments or a mapping of named ones.

    They are moved to the model's device, and floating tensors to its dtype.

    >>> call(nn.Linear(2, 3), torch.ones(4, 2, dtype=torch.float64)).shape
    torch.Size([4, 3])
    """
    inputs = to_device(inputs, *_home(model))
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's first floating parameter or buffer; cpu where it has none."""
    return _home(model)[0]


def to_device(value: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """Return `value` with its tensors on `device`, and its floating tensors in `dtype` if one is passed."""
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else None, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: to_device(item, device, dtype) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_device(item, device, dtype) for item in value]
    return value


def _home(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.float32
