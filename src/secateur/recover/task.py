"""The input of a recovery step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from secateur.graph.graph import Graph
from secateur.plan.plan import Plan
from secateur.statistics.batches import CalibrationBatch
from secateur.statistics.sums import Statistics


@dataclass(frozen=True)
class Task:
    """A model that was cut by `plan` from the model of `graph`, and calibration data for both."""

    graph: Graph
    model: nn.Module
    plan: Plan
    batches: Sequence[CalibrationBatch]
    statistics: Statistics | None = None
    seed: int = 0


__all__ = ["Task"]
