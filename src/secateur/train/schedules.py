"""Schedules: from a step to the share that remains, as plain functions that compose.

A schedule is called with a step 0, 1, 2, ...: it gives `start` at step 0, never less than `end`, and `end` from step
T on. With x = step / T:

    one_shot     start until step T, then end
    linear       start + (end - start) * x
    cubic        end + (start - end) * (1 - x)^3         most of the cut comes early
    exponential  start * (end / start)^x                 each step takes the same share of what is left

None knows what the share is of: channels, MACs or single weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from numbers import Real
from typing import TypeAlias

from secateur.base.table import Table
from secateur.errors import InputError, nearest

Schedule: TypeAlias = Callable[[int], float]
"""From a step, 0 or above, to the share that remains, above 0 and up to 1."""

Factory: TypeAlias = Callable[[float, int], Schedule]
"""From the share at the end and the number of steps to a schedule."""


def one_shot(end: float, steps: int = 1, start: float = 1.0) -> Schedule:
    """All at once, at step `steps`. Raises `InputError` for shares outside (0, 1] and for steps below 1.

    >>> [one_shot(0.5)(step) for step in range(3)]
    [1.0, 0.5, 0.5]
    """
    return _schedule(end, steps, start, lambda x: start)


def linear(end: float, steps: int, start: float = 1.0) -> Schedule:
    """As much of the whole in every step: start + (end - start) * x. Raises `InputError` as `one_shot` does.

    >>> [linear(0.5, 4)(step) for step in range(6)]
    [1.0, 0.875, 0.75, 0.625, 0.5, 0.5]
    """
    return _schedule(end, steps, start, lambda x: start + (end - start) * x)


def cubic(end: float, steps: int, start: float = 1.0) -> Schedule:
    """Much at first, where there is much to spare, and little at last: end + (start - end) * (1 - x)^3.

    Zhu and Gupta, To prune, or not to prune, 2017, eq. 1, in which sparsity is 1 minus what remains here. Raises
    `InputError` as `one_shot` does.

    >>> [round(cubic(0.2, 2)(step), 3) for step in range(3)]
    [1.0, 0.3, 0.2]
    """
    return _schedule(end, steps, start, lambda x: end + (start - end) * (1 - x) ** 3)


def exponential(end: float, steps: int, start: float = 1.0) -> Schedule:
    """The same share of what is left in every step: start * (end / start)^x. Raises `InputError` as `one_shot` does.

    >>> [round(exponential(0.25, 2)(step), 3) for step in range(3)]
    [1.0, 0.5, 0.25]
    """
    return _schedule(end, steps, start, lambda x: start * (end / start) ** x)


SCHEDULES: Table[str, Callable[..., Schedule]] = Table(
    "schedules named",
    {
        "one_shot": one_shot,
        "linear": linear,
        "cubic": cubic,
        "exponential": exponential,
    },
)
"""The names that `schedule=` may have -> functions of (end, steps, start=1.0)."""


def factory(schedule: str | Factory) -> Factory:
    """A schedule's factory by its name, or the given one. Raises `InputError` with the nearest names.

    >>> factory("linear")(0.5, 2)(1)
    0.75
    """
    if callable(schedule):
        return schedule
    known = ", ".join(SCHEDULES)
    if not isinstance(schedule, str):
        raise InputError(
            f"schedule is a {type(schedule).__name__}: {schedule!r}\n"
            f"give {known}, or a function (end, steps) -> schedule"
        )
    if schedule not in SCHEDULES:
        raise InputError(
            f"no schedule is named {schedule!r}{nearest(str(schedule), SCHEDULES)}\n"
            f"known: {known}, or give a function (end, steps) -> schedule"
        )
    return SCHEDULES[schedule]


def led(make: Factory, end: float, steps: int) -> Schedule:
    """The schedule that a factory makes, with its shares of all steps found and checked. Where nothing goes, all stays.

    Raises `InputError` for what is no schedule, gives what is no share, or rises.

    >>> led(linear, 0.5, 2)(1)
    0.75
    """
    if end >= 1:
        return lambda step: 1.0  # a factory may have no way to there
    schedule = _made(make, end, steps)
    shares = [_share_at(step, steps, schedule) for step in range(steps + 1)]
    for step, (before, after) in enumerate(itertools.pairwise(shares)):
        if after > before + 1e-9:
            raise InputError(
                f"the schedule rises from {before:g} at step {step} to {after:g} at step {step + 1}; "
                "what is gone does not come back"
            )
    return lambda step: shares[step]


def _made(make: Factory, end: float, steps: int) -> Schedule:
    called, mend = f"schedule({end:g}, {steps})", "give a function (end, steps) -> schedule, such as linear"
    try:
        schedule = make(end, steps)
    except TypeError as error:
        raise InputError(f"{called} is no schedule: {error}\n{mend}") from error
    if not callable(schedule):
        kind = type(schedule).__name__
        raise InputError(f"{called} gives a {kind}, {schedule!r}, and no function of a step\n{mend}")
    return schedule


def _share_at(step: int, steps: int, schedule: Schedule) -> float:
    value = schedule(step)
    _check_share(f"at step {step} of {steps} the schedule gives ", value)
    return float(value)


# --- schedules of schedules ---


def hold(schedule: Schedule, steps: int) -> Schedule:
    """`schedule`, after its first value was held for `steps` steps: to warm up, or to wait.

    >>> [hold(linear(0.5, 2), 2)(step) for step in range(5)]
    [1.0, 1.0, 1.0, 0.75, 0.5]
    """
    _check_steps(steps, least=0)
    return lambda step: schedule(max(_checked(step) - steps, 0))


def every(schedule: Schedule, steps: int) -> Schedule:
    """`schedule` as a staircase that moves every `steps` steps only.

    >>> [every(linear(0.5, 4), 2)(step) for step in range(5)]
    [1.0, 1.0, 0.75, 0.75, 0.5]
    """
    _check_steps(steps)
    return lambda step: schedule(_checked(step) // steps * steps)


def join(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    """One schedule after the other: the next begins, at its step 0, at each boundary.

    Raises `InputError` unless there is a rising boundary between each two, or where a later one begins with more than
    the one before ends with: what is gone does not come back.

    >>> both = join([linear(0.8, 2), cubic(0.2, 2, start=0.8)], [2])
    >>> [round(both(step), 3) for step in range(5)]
    [1.0, 0.9, 0.8, 0.275, 0.2]
    """
    _check_joined(schedules, boundaries)
    starts = [0, *boundaries]

    def joined(step: int) -> float:
        place = sum(boundary <= _checked(step) for boundary in boundaries)
        return schedules[place](step - starts[place])

    return joined


def _check_joined(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> None:
    starts = [0, *boundaries]
    if len(starts) != len(schedules) or any(a >= b for a, b in zip(starts, boundaries, strict=False)):
        raise InputError(
            f"join has {len(schedules)} schedules and the boundaries {list(boundaries)}\n"
            "give one boundary between each two schedules, above 0 and rising, as in join([a, b], [10])"
        )
    for i, boundary in enumerate(boundaries):
        before, after = schedules[i](boundary - starts[i]), schedules[i + 1](0)
        if after > before + 1e-9:
            raise InputError(
                f"join: at step {boundary} schedule {i + 1} is at {before:g} and schedule {i + 2} starts at {after:g}\n"
                f"what is gone does not come back: give the later one start={before:g}"
            )


# --- what all have in common ---


def _schedule(end: float, steps: int, start: float, curve: Callable[[float], float]) -> Schedule:
    """`curve` of the share x of the way, which rounding never takes out of [end, start]."""
    _check_share("end=", end)
    _check_share("start=", start)
    _check_steps(steps)
    if end > start:
        raise InputError(f"end={end:g} is above start={start:g}; both are shares that remain, so the end is the lower")

    def share(step: int) -> float:
        if _checked(step) >= steps:
            return float(end)
        return float(start) if step == 0 else min(max(curve(step / steps), end), start)

    return share


def _check_share(word: str, value: float) -> None:
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < value <= 1:
        raise InputError(f"{word}{value!r}; it is the share that remains: above 0, up to 1")


def _check_steps(steps: int, least: int = 1) -> None:
    if type(steps) is not int or steps < least:
        raise InputError(f"steps={steps!r}; give a whole number from {least} up")


def _checked(step: int) -> int:
    if step < 0:
        raise InputError(f"step={step!r}; steps are counted from 0")
    return step


__all__ = [
    "SCHEDULES",
    "Factory",
    "Schedule",
    "cubic",
    "every",
    "exponential",
    "factory",
    "hold",
    "join",
    "led",
    "linear",
    "one_shot",
]
