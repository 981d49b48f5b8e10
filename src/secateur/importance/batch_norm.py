"""Criterion of the scale factors of normalization layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from secateur.importance.magnitude import L2
from secateur.importance.slices import AxisSlices


@dataclass(frozen=True)
class BatchNormScale:
    """Sum of |gamma| over the normalization layers of a unit; an axis without any is scored by its L2 norm.

    Reference:
        Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017, section 3.
    """

    needs = frozenset[str]()

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return axis.power_sum("scale", 1) if axis.has("scale") else L2()(axis)
