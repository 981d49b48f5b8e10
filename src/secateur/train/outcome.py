"""What a loop of cutting and training came to."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from torch import nn

from secateur.plan.plan import Plan
from secateur.train.history import History
from secateur.train.stage_verdict import Record, table


@dataclass(frozen=True)
class Fitted:
    """What the loop came to; `print` shows its stages as a table.

    `model` is the last good one, `stopped` is why it is the last: "target", "max_drop" or "steps". `stages` has a
    record of the model at first and of each stage, `histories` the training of each stage.
    """

    model: nn.Module
    stopped: str
    stages: tuple[Record, ...]
    histories: tuple[History, ...]
    plans: tuple[Plan, ...]

    @property
    def plan(self) -> Plan | None:
        """From the model at first to this one, as one plan; None where no stage was good enough.

        Raises `PruningError` where its cuts cannot be one plan (see `Plan.then`); the model has them all the same.
        """
        return functools.reduce(Plan.then, self.plans) if self.plans else None

    @property
    def history(self) -> History:
        """The training of all stages, one after the other."""
        parts = self.histories
        losses = tuple(loss for part in parts for loss in part.losses)
        return History(losses, sum(part.steps for part in parts), sum(part.seconds for part in parts))

    def __str__(self) -> str:
        judged = any(record.metric is not None for record in self.stages)
        return "\n".join([*table(self.stages, judged=judged), f"ended: {ENDS[self.stopped]}"])


ENDS = {
    "target": "the target is met",
    "max_drop": "the last stage lost too much; the model is that of the stage before",
    "steps": "its steps are done, before the schedule is at its end",
}


__all__ = ["Fitted"]
