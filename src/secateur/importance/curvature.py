"""Second order, without a Hessian."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from secateur.importance.gradients import makers_sum
from secateur.importance.magnitude import stand_in
from secateur.importance.slices import AxisSlices


@dataclass(frozen=True)
class Hessian:
    """trace(H_i) |w_i|² / 2p for the p weights w_i that make unit i: the rise of the loss when they go, with the mean
    of the Hessian's diagonal for each of its entries; zero where that is negative.

    The diagonal is estimated as z * Hz with random signs z, one draw a batch (Hutchinson 1989), Hz by differentiating
    twice (Pearlmutter, "Fast Exact Multiplication by the Hessian", 1994).
    Yu et al., "Hessian-Aware Pruning and Optimal Neural Implant", WACV 2022, equation 6.
    """

    needs = frozenset({"curvature"})
    norm = "none"

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        if not axis.knows("curvature"):
            return stand_in(axis)
        trace = makers_sum(axis, lambda name, w: axis.parameter_mean(name, "curvature"))
        squares = makers_sum(axis, lambda name, w: w.square())
        many = makers_sum(axis, lambda name, w: torch.ones_like(w))
        return (trace / many).clamp(min=0) * squares / 2
