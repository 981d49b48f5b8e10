"""Masks that grow sparser along a schedule, as in "To prune, or not to prune" (Zhu and Gupta, 2017)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Following:
    """`step()` is called after each step of the optimizer, and calls `update` (that of `Masks`).

    done: how many steps there were; can be set to go on. The masks are changed where the schedule gives less than they
    keep, so one that holds its value between costs nothing there.
    """

    update: Callable[..., object]
    schedule: Callable[[int], float]
    regrow: bool = False
    done: int = 0

    def step(self) -> None:
        """One more step. Raises `InputError` where the schedule would let weights back, and `regrow` is not set."""
        before, self.done = self.schedule(self.done), self.done + 1
        remains = self.schedule(self.done)
        if remains != before:
            self.update(1 - remains, regrow=self.regrow)


__all__ = ["Following"]
