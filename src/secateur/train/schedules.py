"""Schedules: functions from a step to the share that remains.

A schedule is called with a step 0, 1, 2, ...: it returns `start` at step 0, never less than `end`, and `end` from step
T on. With x = step / T:

    one_shot     start until step T, then end
    linear       start + (end - start) * x
    cubic        end + (start - end) * (1 - x)^3         most of the cut comes early
    exponential  start * (end / start)^x                 each step removes the same share of what is left

The share can be of channels, MACs or single weights; a schedule does not depend on which.
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
    """Return a schedule that removes everything in step `steps`.

    Raises `InputError` for shares outside (0, 1] and for steps below 1.

    >>> [one_shot(0.5)(step) for step in range(3)]
    [1.0, 0.5, 0.5]
    """
    return _schedule(end, steps, start, lambda x: start)


def linear(end: float, steps: int, start: float = 1.0) -> Schedule:
    """Return a schedule that removes equal amounts: start + (end - start) * x. Raises `InputError` as `one_shot` does.

    >>> [linear(0.5, 4)(step) for step in range(6)]
    [1.0, 0.875, 0.75, 0.625, 0.5, 0.5]
    """
    return _schedule(end, steps, start, lambda x: start + (end - start) * x)


def cubic(end: float, steps: int, start: float = 1.0) -> Schedule:
    """Return a schedule that removes most at first and least at the end: end + (start - end) * (1 - x)^3.

    Raises `InputError` as `one_shot` does.

    Example:
        >>> [round(cubic(0.2, 2)(step), 3) for step in range(3)]
        [1.0, 0.3, 0.2]

    Reference:
        Zhu and Gupta, To prune, or not to prune, 2017, eq. 1, where sparsity is 1 minus the share that remains.
    """
    return _schedule(end, steps, start, lambda x: end + (start - end) * (1 - x) ** 3)


def exponential(end: float, steps: int, start: float = 1.0) -> Schedule:
    """Return a schedule that removes the same share of what is left in each step: start * (end / start)^x.

    Raises `InputError` as `one_shot` does.

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
"""The schedules by the names that `schedule=` takes; each is a function (end, steps, start=1.0) -> schedule."""


def factory(schedule: str | Factory) -> Factory:
    """Return the factory of a schedule by its name; a function is returned as it is.

    Raises `InputError` for an unknown name, with the nearest names.

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
    """Make a schedule with a factory, and check its shares at all steps; if `end` is 1 or more, everything remains.

    Raises `InputError` if the factory does not return a schedule, or the schedule returns an invalid share or rises.

    >>> led(linear, 0.5, 2)(1)
    0.75
    """
    if end >= 1:
        return lambda step: 1.0  # some factories do not accept end=1
    schedule = _made(make, end, steps)
    shares = [_share_at(step, steps, schedule) for step in range(steps + 1)]
    for step, (before, after) in enumerate(itertools.pairwise(shares)):
        if after > before + 1e-9:
            raise InputError(
                f"the schedule rises from {before:g} at step {step} to {after:g} at step {step + 1}; "
                "units that were removed do not come back"
            )
    return lambda step: shares[step]


def _made(make: Factory, end: float, steps: int) -> Schedule:
    called, remedy = f"schedule({end:g}, {steps})", "give a function (end, steps) -> schedule, such as linear"
    try:
        schedule = make(end, steps)
    except TypeError as error:
        raise InputError(f"{called} failed: {error}\n{remedy}") from error
    if not callable(schedule):
        kind = type(schedule).__name__
        raise InputError(f"{called} returns a {kind}, {schedule!r}, not a function of a step\n{remedy}")
    return schedule


def _share_at(step: int, steps: int, schedule: Schedule) -> float:
    value = schedule(step)
    _check_share(f"at step {step} of {steps} the schedule returns ", value)
    return float(value)


def hold(schedule: Schedule, steps: int) -> Schedule:
    """Return `schedule`, delayed by `steps` steps in which its first value is held.

    >>> [hold(linear(0.5, 2), 2)(step) for step in range(5)]
    [1.0, 1.0, 1.0, 0.75, 0.5]
    """
    _check_steps(steps, least=0)
    return lambda step: schedule(max(_checked(step) - steps, 0))


def every(schedule: Schedule, steps: int) -> Schedule:
    """Return `schedule` as a staircase that changes only every `steps` steps.

    >>> [every(linear(0.5, 4), 2)(step) for step in range(5)]
    [1.0, 1.0, 0.75, 0.75, 0.5]
    """
    _check_steps(steps)
    return lambda step: schedule(_checked(step) // steps * steps)


def join(schedules: Sequence[Schedule], boundaries: Sequence[int]) -> Schedule:
    """Concatenate schedules: at each boundary the next one begins, at its step 0.

    Raises `InputError` unless there are rising boundaries between each two schedules, and if a schedule begins with a
    larger share than the one before ends with.

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
                f"units that were removed do not come back: give the later one start={before:g}"
            )


def _schedule(end: float, steps: int, start: float, curve: Callable[[float], float]) -> Schedule:
    """Return the schedule `curve(step / steps)`, clamped to [end, start] against rounding."""
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
