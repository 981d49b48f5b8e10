"""How much a whole block matters: a criterion sees it as an axis of one unit, the mean of the units inside."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NoReturn

import torch

from secateur.errors import InputError, PruningError
from secateur.graph.graph import Graph
from secateur.graph.parts import Block, SiteUse
from secateur.importance.slices import KnownTensors, Slices
from secateur.statistics.sums import Statistics

SCORING = ("l1", "l2", "lp", "group_l1", "group_l2", "bn_scale", "taylor_weight", "obd", "hessian", "snip", "random")
"""Criteria that score blocks: those of each unit's own weights."""


class BlockSlices(Slices):
    """The parameters of one block, by role, as a criterion sees those of an axis (`secateur.importance.AxisSlices`).

    Sums over a parameter are divided by its number of units, so that wide blocks are not thought better than narrow
    ones: with l2 the score is the root of the sum, over all weights w of the block, of the mean of |w_i|^2 over the
    output units i. What compares units with each other, or asks who reads them, raises `InputError`.
    """

    shape = (1,)

    def __init__(self, block: Block, known: KnownTensors):
        super().__init__(block.uses, known)
        self.block = block

    @property
    def name(self) -> str:
        return self.block.name

    def _by_unit(self, values: torch.Tensor, use: SiteUse) -> torch.Tensor:
        return values.sum(0, keepdim=True) / len(values)

    def _of_units(self, *args: Any) -> NoReturn:
        raise InputError(
            f"this importance compares units, and {self.name!r} is a block; blocks are scored by {', '.join(SCORING)}, "
            "by a function of their weights or by ready scores"
        )

    vectors = order = normalised = gate = read_sum = read_mean = problems = _of_units


def score_blocks(
    graph: Graph, criterion: Callable[[Any], torch.Tensor], statistics: Statistics | None = None
) -> dict[str, float]:
    """One score for each block that a depth target counts. Raises `PruningError` for scores that are not finite."""
    known = KnownTensors.of(graph, statistics)
    scores = {b.name: float(criterion(BlockSlices(b, known)).sum()) for b in graph.blocks if b.counts}
    for name, score in scores.items():
        if not math.isfinite(score):
            raise PruningError(
                f"the score of the block {name!r} is not finite: {score}\n"
                "look for NaN or infinite weights there; the model was left as it is"
            )
    return scores
