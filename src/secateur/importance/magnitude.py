"""Magnitude of a unit's weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..slices import AxisSlices


def producing_role(axis: AxisSlices) -> str:
    """The role whose slices make the unit; an axis that no layer puts out is judged by whatever it scales or shifts."""
    return next((role for role in ("output", "scale", "shift") if axis.has(role)), "input")


@dataclass(frozen=True)
class L1:
    """Sum of absolute weights over all output slices of a unit, |w|_1.

    Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, section 3.1.
    """

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return axis.power_sum(producing_role(axis), 1)


@dataclass(frozen=True)
class L2:
    """Euclidean norm over all output slices of a unit, |w|_2.

    He et al., "Soft Filter Pruning", IJCAI 2018, equation 2 with p = 2, over every layer that puts the unit out.
    """

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return axis.power_sum(producing_role(axis), 2).sqrt()
