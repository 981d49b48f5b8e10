"""Second-order criterion that estimates the diagonal of the Hessian without forming it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from secateur.importance.gradients import makers_sum
from secateur.importance.magnitude import stand_in
from secateur.importance.slices import AxisSlices


@dataclass(frozen=True)
class Hessian:
    """Estimated rise of the loss when the p weights w_i that produce unit i are removed: trace(H_i) |w_i|² / 2p.

    Every entry of the Hessian's diagonal is replaced by the mean of the unit's entries; a negative mean counts as zero.
    The diagonal is estimated as z * Hz, with one draw of random signs z per batch (Hutchinson 1989) and Hz by
    differentiating twice (Pearlmutter, "Fast Exact Multiplication by the Hessian", Neural Computation 1994).

    Reference:
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
