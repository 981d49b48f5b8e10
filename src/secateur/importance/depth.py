"""Importance of whole blocks: a criterion sees a block as an axis with one unit, the mean of the units inside."""

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
"""Criteria that can score blocks: those that read only a unit's own weights."""


class BlockSlices(Slices):
    """The parameters of one block by role, with the interface of `secateur.importance.AxisSlices` and shape (1,).

    Sums over a parameter are divided by its number of units, so that wide blocks do not score higher than narrow ones
    for their width alone. With l2, the score is the root of the sum, over all weights w of the block, of the mean of
    |w_i|² over the output units i. Methods that compare units, or that need their readers, raise `InputError`.
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
            f"this importance compares units, and {self.name!r} is a block\n"
            f"score blocks with one of {', '.join(SCORING)}, a function of their weights or ready scores"
        )

    vectors = order = normalised = gate = read_sum = read_mean = problems = _of_units


def score_blocks(
    graph: Graph, criterion: Callable[[Any], torch.Tensor], statistics: Statistics | None = None
) -> dict[str, float]:
    """Score the blocks that a depth target counts.

    Args:
        graph: The traced model.
        criterion: A criterion of a unit's own weights (`SCORING` lists their names), which receives `BlockSlices`.
        statistics: What calibration collected, for a criterion that needs it.

    Returns:
        One score by the name of each block.

    Raises:
        PruningError: A score is not finite.
        InputError: The criterion compares units.
    """
    known = KnownTensors.of(graph, statistics)
    scores = {b.name: float(criterion(BlockSlices(b, known)).sum()) for b in graph.blocks if b.counts}
    for name, score in scores.items():
        if not math.isfinite(score):
            raise PruningError(
                f"the score of the block {name!r} is not finite: {score}\n"
                "look for NaN or infinite weights there; the model was left as it is"
            )
    return scores
