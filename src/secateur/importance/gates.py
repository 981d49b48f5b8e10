"""Criteria of gates: the derivative of the loss with respect to a factor on each unit.

The gate of unit i is the derivative g_i of an example's loss with respect to a factor of 1 on the unit: the sum of
x * dL/dx over all its values x that are read. Where no weight reads a unit (queries and keys multiply each other), it
is the sum of w * dL/dw over the unit's slices, for all examples of a batch together. Gates take account of norms,
activations and everything else between the weights that produce a unit and those that read it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from secateur.importance.magnitude import stand_in
from secateur.importance.slices import AxisSlices


def gate(axis: AxisSlices, quantity: str) -> torch.Tensor:
    """Return a gate statistic of each unit.

    Where calibration data did not reach the axis, return the L2 norm of each unit's weights, divided by its mean.
    """
    found = axis.gate(quantity)
    return stand_in(axis) if found is None else found


@dataclass(frozen=True)
class Taylor:
    """Mean absolute first-order change of the loss when unit i is removed, E|g_i|, divided by the axis' L2 norm.

    Reference:
        Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR 2017,
        equations 7 (with the absolute value taken for each example) and 8 (the norm).
    """

    needs = frozenset({"gates"})
    norm = "l2"

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return gate(axis, "gate_absolute")


@dataclass(frozen=True)
class TaylorBatch:
    """`Taylor` with the absolute value taken of the sum over each batch, in which examples may cancel.

    Batches of one example give the scores of `Taylor`.

    Reference:
        Most implementations of Molchanov et al., ICLR 2017 (see `Taylor`), compute this form.
    """

    needs = frozenset({"gates"})
    norm = "l2"

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return gate(axis, "gate_batch")


@dataclass(frozen=True)
class Fisher:
    """Estimated rise of the loss when unit i is removed, E[g_i²] / 2, with the empirical Fisher as its curvature.

    Reference:
        Theis et al., "Faster gaze prediction with dense networks and Fisher pruning", arXiv 2018, equation 6 and
        section 3.2.
    """

    needs = frozenset({"gates"})
    norm = "none"

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return gate(axis, "gate_square") / 2
