"""How the loss answers to a factor on a unit.

The gate of unit i is the derivative g_i of an example's loss by a factor on the unit, at 1: the sum of x * dL/dx over
all values x of it that are read. Where no weight reads a unit (queries and keys meet each other), it is the sum of w *
dL/dw over its slices instead, all examples of a batch together. Gates see norms and activations, and whatever else lies
between what makes a unit and what reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from secateur.importance.magnitude import stand_in
from secateur.importance.slices import AxisSlices


def gate(axis: AxisSlices, quantity: str) -> torch.Tensor:
    """Of each unit; by its weights' norm, with a mean of 1, where calibration data did not reach the axis."""
    found = axis.gate(quantity)
    return stand_in(axis) if found is None else found


@dataclass(frozen=True)
class Taylor:
    """E|g_i|: the mean over examples of the first-order change of the loss when unit i goes, divided by the axis' L2
    norm.

    Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR 2017, equations 7
    (with the absolute value taken for each example) and 8 (the norm).
    """

    needs = frozenset({"gates"})
    norm = "l2"

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return gate(axis, "gate_absolute")


@dataclass(frozen=True)
class TaylorBatch:
    """As `Taylor`, with the absolute value taken of the sum over each batch, in which examples may cancel.

    So compute it most implementations of Molchanov et al., ICLR 2017; batches of one example give `Taylor`.
    """

    needs = frozenset({"gates"})
    norm = "l2"

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return gate(axis, "gate_batch")


@dataclass(frozen=True)
class Fisher:
    """E[g_i²] / 2: how much the loss rises when unit i goes, with the empirical Fisher information for its curvature.

    Theis et al., "Faster gaze prediction with dense networks and Fisher pruning", 2018, equation 6 and section 3.2.
    """

    needs = frozenset({"gates"})
    norm = "none"

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return gate(axis, "gate_square") / 2
