"""What every recovery step is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ..graph import Graph
from ..plan import Plan
from ..statistics import Statistics
from ..statistics.batches import Batch


@dataclass(frozen=True)
class Task:
    """A model that was cut from that of `graph` by `plan`, and calibration data for both."""

    graph: Graph
    model: nn.Module
    plan: Plan
    batches: Sequence[Batch]
    statistics: Statistics | None = None
    seed: int = 0


__all__ = ["Task"]
