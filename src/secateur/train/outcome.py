"""`Fitted`: the result of a loop of cutting and training."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from torch import nn

from secateur.plan.plan import Plan
from secateur.train.history import History
from secateur.train.stage_verdict import Record, table


@dataclass(frozen=True)
class Fitted:
    """The result of `prune_and_fit`; `print` shows its stages as a table.

    Attributes:
        model: The last good model.
        stopped: Why the loop ended: "target" (met), "max_drop", or "steps" (done before the schedule ended).
        stages: A record of the original model and of each stage.
        histories: The training of each stage.
        plans: The cuts that lead from the original model to `model`.
    """

    model: nn.Module
    stopped: str
    stages: tuple[Record, ...]
    histories: tuple[History, ...]
    plans: tuple[Plan, ...]

    @property
    def plan(self) -> Plan | None:
        """All cuts from the original model to `model` as one plan; None if no stage was good enough.

        Raises `PruningError` if the cuts cannot be composed to one plan (see `Plan.then`).
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
    "steps": "its steps are done, before the end of the schedule",
}


__all__ = ["Fitted"]
