"""How long models take, measured here and now. It says nothing about another machine, thread count or batch size.

The models take turns within one run, so that whatever else the machine does meets all of them alike; the median of the
calls is not moved by the few that were interrupted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

WARM_UP = 5
REPEATS = 30
LEAST = 5
SECONDS = 30.0


def medians(
    models: Sequence[nn.Module],
    inputs: Sequence[Any],
    *,
    repeats: int = REPEATS,
    watch: Callable[[range], Iterator[int]] = iter,
) -> list[float]:
    """The median time of a call of each model, in milliseconds, without gradients and in the modes they are in.

    Five rounds of warm-up, then `repeats` rounds (at least five, fewer than asked where they take over 30 s) in which
    each model is called once. `watch` is shown the rounds as they are done.

    >>> a, b = medians([nn.Linear(2, 2), nn.Linear(2, 2)], [torch.zeros(1, 2)])
    >>> a > 0 and b > 0
    True
    """
    times: list[list[float]] = [[] for _ in models]
    started = time.perf_counter()
    with torch.no_grad():
        for turn in watch(range(-WARM_UP, repeats)):
            for model, taken in zip(models, times, strict=True):
                milliseconds = _timed(model, inputs)
                if turn >= 0:
                    taken.append(milliseconds)
            if turn + 1 >= LEAST and time.perf_counter() - started > SECONDS:
                break
    return [statistics.median(taken) for taken in times]


def _timed(model: nn.Module, inputs: Sequence[Any]) -> float:
    _wait(inputs)
    started = time.perf_counter()
    model(*inputs)
    _wait(inputs)
    return 1e3 * (time.perf_counter() - started)


def _wait(inputs: Sequence[Any]) -> None:
    """Accelerators answer before they have finished."""
    for device in {x.device for x in inputs if isinstance(x, torch.Tensor)}:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
