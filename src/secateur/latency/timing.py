"""Measure how long calls of models take. The result holds for this machine, thread count and batch size only.

The models are called alternately, so that other load on the machine affects all of them equally; a few interrupted
calls do not change the median. If many calls are interrupted (other programs use the same cores), the median falls into
one of two modes by chance: then the calls are far apart, and the timing is not `steady`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

WARM_UP = 5
REPEATS = 30
LEAST = 5
SECONDS = 30.0
APART = 2.0


@dataclass(frozen=True, slots=True)
class Timing:
    """The duration of calls in milliseconds.

    Attributes:
        median: The median.
        fastest: The fastest call.
        slow: The third quartile: three quarters of the calls are at least as fast.

    Example:
        >>> Timing.of([1.0, 1.1, 1.2, 9.0])
        Timing(median=1.15, fastest=1.0, slow=1.2)
    """

    median: float
    fastest: float
    slow: float

    @staticmethod
    def of(calls: Sequence[float]) -> Timing:
        """Summarize the durations of calls, in milliseconds."""
        ordered = sorted(calls)
        return Timing(statistics.median(ordered), ordered[0], ordered[(3 * len(ordered) - 1) // 4])

    @property
    def steady(self) -> bool:
        """Whether three quarters of the calls took at most twice as long as the fastest."""
        return self.slow <= APART * self.fastest


def timings(
    models: Sequence[nn.Module],
    inputs: Sequence[Any],
    *,
    repeats: int = REPEATS,
    watch: Callable[[range], Iterator[int]] = iter,
) -> list[Timing]:
    """Measure how long a call of each model takes, without gradients, in the mode that each model is in.

    After five rounds of warm-up, each round calls each model once. After 30 s and at least five rounds it stops.

    Args:
        models: The models to compare.
        inputs: The positional arguments of each call.
        repeats: The number of rounds. Default: 30.
        watch: A function that wraps the range of rounds, such as a progress bar. Default: `iter`.

    Returns:
        One `Timing` per model, in milliseconds.

    Example:
        >>> a, b = timings([nn.Linear(2, 2), nn.Linear(2, 2)], [torch.zeros(1, 2)])
        >>> a.median > 0 and b.median > 0
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
    return [Timing.of(taken) for taken in times]


def _timed(model: nn.Module, inputs: Sequence[Any]) -> float:
    _wait(inputs)
    started = time.perf_counter()
    model(*inputs)
    _wait(inputs)
    return 1e3 * (time.perf_counter() - started)


def _wait(inputs: Sequence[Any]) -> None:
    """Wait until the devices of the inputs have finished: CUDA calls are asynchronous."""
    for device in {x.device for x in inputs if isinstance(x, torch.Tensor)}:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
