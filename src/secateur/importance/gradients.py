"""Criteria of weights and their gradients, over the layers that produce a unit and its normalization layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.importance.magnitude import stand_in
from secateur.importance.slices import AxisSlices, Element


def learned(axis: AxisSlices, quantity: str, element: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the sum of `element(w, q)` over the weights w that produce each unit; q is the mean of `quantity` of w."""
    if not axis.knows(quantity):
        return stand_in(axis)
    return makers_sum(axis, lambda name, w: element(w, axis.parameter_mean(name, quantity)))


def makers_sum(axis: AxisSlices, element: Element) -> Tensor:
    """Return the sum of `element` over all weights that produce each unit, or that read it where none produces it."""
    roles = [role for role in ("output", "scale", "shift") if axis.has(role)] or ["input"]
    return torch.stack([axis.unit_sum(role, element) for role in roles]).sum(0)


@dataclass(frozen=True)
class TaylorWeight:
    """Sum of (w dL/dw)² over a unit's weights w, with the gradient of the mean loss over all calibration data.

    Reference:
        Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, equations 6 and 8.
    """

    needs = frozenset({"gradients"})
    norm = "none"

    def __call__(self, axis: AxisSlices) -> Tensor:
        return learned(axis, "gradient", lambda w, g: (w * g).square())


@dataclass(frozen=True)
class Snip:
    """Sum of |w dL/dw| over a unit's weights w, with the gradient of the mean loss over all calibration data.

    Reference:
        Lee et al., "SNIP: Single-shot Network Pruning based on Connection Sensitivity", ICLR 2019, equations 5 and 6,
        without the division by the sum over the network, which is the same for all units.
    """

    needs = frozenset({"gradients"})
    norm = "none"

    def __call__(self, axis: AxisSlices) -> Tensor:
        return learned(axis, "gradient", lambda w, g: (w * g).abs())


@dataclass(frozen=True)
class OptimalBrainDamage:
    """Sum of the saliency h w² / 2 over a unit's weights w, with the empirical Fisher E[(dL/dw)²] as curvature h.

    The mean is over batches of calibration data, so batches of one example give the best estimate.

    Reference:
        LeCun, Denker and Solla, "Optimal Brain Damage", NIPS 1989, equation 5.
    """

    needs = frozenset({"gradients"})
    norm = "none"

    def __call__(self, axis: AxisSlices) -> Tensor:
        return learned(axis, "gradient_square", lambda w, g2: w.square() * g2 / 2)
