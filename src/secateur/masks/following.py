"""Gradual pruning: masks that become sparser along a schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Following:
    """A schedule that is applied to masks: call `step()` after each step of the optimizer.

    update: `Masks.update`. done: the number of steps so far; set it to continue an earlier run. The masks change only
    in steps where the value of the schedule changes, and other steps cost nothing.

    Reference:
        Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", 2017.
    """

    update: Callable[..., object]
    schedule: Callable[[int], float]
    regrow: bool = False
    done: int = 0

    def step(self) -> None:
        """Count one step, and mask as the schedule says.

        Raises:
            InputError: The schedule would let weights come back, and `regrow` is not set.
        """
        before, self.done = self.schedule(self.done), self.done + 1
        remains = self.schedule(self.done)
        if remains != before:
            self.update(1 - remains, regrow=self.regrow)


__all__ = ["Following"]
