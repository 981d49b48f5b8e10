"""Weights and derivatives by them, of everything that makes a unit: the layers that put it out, and its norms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.importance.magnitude import stand_in
from secateur.importance.slices import AxisSlices, Element


def learned(axis: AxisSlices, quantity: str, element: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Sum of `element(w, q)` over all weights w that make a unit, q the mean over batches of that quantity of w."""
    if not axis.knows(quantity):
        return stand_in(axis)
    return makers_sum(axis, lambda name, w: element(w, axis.parameter_mean(name, quantity)))


def makers_sum(axis: AxisSlices, element: Element) -> Tensor:
    """Sum of `element` over all weights that make a unit; over those that read it, where none does."""
    roles = [role for role in ("output", "scale", "shift") if axis.has(role)] or ["input"]
    return torch.stack([axis.unit_sum(role, element) for role in roles]).sum(0)


@dataclass(frozen=True)
class TaylorWeight:
    """Sum over a unit's weights w of (w dL/dw)², with the gradient of the mean loss over all calibration data.

    Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, equations 6 and 8.
    """

    needs = frozenset({"gradients"})
    norm = "none"

    def __call__(self, axis: AxisSlices) -> Tensor:
        return learned(axis, "gradient", lambda w, g: (w * g).square())


@dataclass(frozen=True)
class Snip:
    """Sum over a unit's weights w of |w dL/dw|, with the gradient of the mean loss over all calibration data.

    Lee et al., "SNIP: Single-shot Network Pruning based on Connection Sensitivity", ICLR 2019, equations 5 and 6; the
    sum over the network that these divide by is the same for all units.
    """

    needs = frozenset({"gradients"})
    norm = "none"

    def __call__(self, axis: AxisSlices) -> Tensor:
        return learned(axis, "gradient", lambda w, g: (w * g).abs())


@dataclass(frozen=True)
class OptimalBrainDamage:
    """Sum over a unit's weights w of w² E[(dL/dw)²] / 2: the saliency h w² / 2 with the empirical Fisher for curvature
    h.

    The mean is over batches of calibration data, so batches of one example tell most.
    LeCun, Denker and Solla, "Optimal Brain Damage", NeurIPS 1989, equation 5.
    """

    needs = frozenset({"gradients"})
    norm = "none"

    def __call__(self, axis: AxisSlices) -> Tensor:
        return learned(axis, "gradient_square", lambda w, g2: w.square() * g2 / 2)
