"""Our side: one trace and one calibration for all rows of a task, one plan and fresh cuts of it for each choice."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

import secateur
from secateur.graph.graph import Graph
from secateur.importance import CRITERIA, needs_of_importance
from secateur.plan.plan import Plan
from secateur.planning.solver.allocate import SCOPES
from secateur.recover import STEPS, needs_of, recover_
from secateur.statistics.calibration import calibrate
from secateur.statistics.sums import Statistics

from .task import Task

NAMES = tuple(CRITERIA)
RAW = "raw"
RECOVERIES = (RAW, *STEPS)


@dataclass(frozen=True, slots=True)
class Setting:
    """Arguments of `secateur.prune`. widths: "inner" or "all"; recovery: a step's name, or "raw" for none."""

    criterion: str
    scope: str = "global"
    widths: str = "inner"
    recovery: str = RAW

    @staticmethod
    def named(text: str) -> Setting:
        """Of a criterion, then another scope, "all" for those widths, and a plus before the recovery.

        >>> Setting.named("l2 axis + lsq")
        Setting(criterion='l2', scope='axis', widths='inner', recovery='lsq')
        """
        choice, _, recovery = text.partition(" + ")
        criterion, *words = choice.split()
        scope = next((word for word in words if word in SCOPES), "global")
        return Setting(criterion, scope, "all" if "all" in words else "inner", recovery or RAW)


@dataclass(frozen=True, slots=True)
class Ready:
    """A task with the graph and statistics that the settings need; `seconds` is the time of tracing and calibration."""

    task: Task
    graph: Graph
    statistics: Statistics | None
    seconds: float

    @staticmethod
    def of(task: Task, settings: Iterable[Setting]) -> Ready:
        """Calibrated once, for all that these settings need."""
        began = time.perf_counter()
        graph = secateur.trace(task.model, task.example)
        needs: set[str] = set()
        for setting in settings:
            needs |= needs_of_importance(setting.criterion) | needs_of(_steps(setting.recovery))
        statistics = calibrate(graph, task.batches, needs=needs, loss=task.loss, seed=task.seed) if needs else None
        return Ready(task, graph, statistics, time.perf_counter() - began)

    def plan(self, setting: Setting, share: float) -> Plan:
        """At the task's target for `share`; what it recovers with plays no part."""
        wanted: dict[str, Any] = self.task.wanted(share)
        rules = [*wanted.pop("select", ()), *(self.task.inner if setting.widths == "inner" else ())]
        return secateur.plan(
            self.graph,
            **wanted,
            importance=setting.criterion,
            scope=setting.scope,
            select=rules or None,
            statistics=self.statistics,
            seed=self.task.seed,
        )

    def cut(self, plan: Plan, recovery: str) -> nn.Module:
        """Return a new cut of the dense model, recovered with the calibration data."""
        model, task = secateur.cut(self.task.model, plan), self.task
        if steps := _steps(recovery):
            recover_(model, self.graph, plan, task.batches, steps, statistics=self.statistics, seed=task.seed)
        return model.eval()


def _steps(recovery: str) -> list[str]:
    return [] if recovery == RAW else [recovery]


__all__ = ["NAMES", "RAW", "RECOVERIES", "SCOPES", "Ready", "Setting"]
