"""Magnitude that is comparable across layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from secateur.importance.magnitude import producing_role
from secateur.importance.slices import AxisSlices


@dataclass(frozen=True)
class Lamp:
    """|w_i|² divided by the sum of |w_j|² over all units j that are not smaller.

    w_i are the output slices of unit i, where the paper has single weights. The largest unit of each axis scores 1.

    Reference:
        Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", ICLR 2021, equation 3.
    """

    needs = frozenset[str]()
    norm = "none"

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        squares = axis.power_sum(producing_role(axis), 2)
        place = axis.order(squares)
        rising = torch.zeros_like(squares).scatter(-1, place, squares)
        left = rising.flip(-1).cumsum(-1).flip(-1)
        return squares / left.gather(-1, place).clamp(min=torch.finfo(torch.float64).tiny)
