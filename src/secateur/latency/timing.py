"""How long models take, measured here and now. It says nothing about another machine, thread count or batch size.

The models take turns within one run, so that whatever else the machine does meets all of them alike; the median of the
calls is not moved by the few that were interrupted. Where many were (other programs want the same cores), the median is
one of two modes by chance: then the calls are far apart, and the timing calls itself unsteady.
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
    """The median of some calls in milliseconds, the fastest of them, and the one that three in four are faster than.

    >>> Timing.of([1.0, 1.1, 1.2, 9.0])
    Timing(median=1.15, fastest=1.0, slow=1.2)
    """

    median: float
    fastest: float
    slow: float

    @staticmethod
    def of(calls: Sequence[float]) -> Timing:
        ordered = sorted(calls)
        return Timing(statistics.median(ordered), ordered[0], ordered[(3 * len(ordered) - 1) // 4])

    @property
    def steady(self) -> bool:
        """Whether most calls took about as long as the fastest."""
        return self.slow <= APART * self.fastest


def timings(
    models: Sequence[nn.Module],
    inputs: Sequence[Any],
    *,
    repeats: int = REPEATS,
    watch: Callable[[range], Iterator[int]] = iter,
) -> list[Timing]:
    """How long a call of each model takes, without gradients and in the modes they are in.

    Five rounds of warm-up, then `repeats` rounds (at least five, fewer than asked where they take over 30 s) in which
    each model is called once. `watch` is shown the rounds as they are done.

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
    """Accelerators answer before they have finished."""
    for device in {x.device for x in inputs if isinstance(x, torch.Tensor)}:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
