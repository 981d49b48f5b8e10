"""How much a whole block matters: a criterion sees it as an axis of one unit, the mean of the units inside."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..blocks import Block
from ..errors import PruningError
from ..graph import Graph
from ..slices import Slices


class BlockSlices(Slices):
    """The parameters of one block, by role, as a criterion sees those of an axis (`secateur.importance.AxisSlices`).

    Sums over a parameter are divided by its number of units, so that wide blocks are not thought better than narrow
    ones: with l2 the score is the root of the sum, over all weights w of the block, of the mean of |w_i|^2 over the
    output units i.
    """

    shape = (1,)

    def __init__(self, block: Block, tensors: Mapping[str, torch.Tensor]):
        super().__init__(block.uses, tensors)
        self.block = block

    @property
    def name(self) -> str:
        return self.block.name

    def power_sum(self, role: str, p: float) -> torch.Tensor:
        """Sum of |w|^p over every parameter of that role, each divided by its number of units. Gives (1,), float64."""
        total = torch.zeros(self.shape, dtype=torch.float64)
        for use in self._uses(role):
            tensor = self._tensors[use.name].detach()
            total += float(torch.linalg.vector_norm(tensor.float(), p).double() ** p) / tensor.shape[use.dim]
        return total


def score_blocks(graph: Graph, criterion: Callable[[Any], torch.Tensor]) -> dict[str, float]:
    """One score for each block that a depth target counts. Raises `PruningError` for scores that are not finite."""
    tensors = dict(graph.model.named_parameters())
    scores = {b.name: float(criterion(BlockSlices(b, tensors)).sum()) for b in graph.blocks if b.counts}
    for name, score in scores.items():
        if not math.isfinite(score):
            raise PruningError(
                f"the score of the block {name!r} is not finite: {score}\n"
                "look for NaN or infinite weights there; the model was left as it is"
            )
    return scores
