"""Units that others could stand in for."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from secateur.importance.magnitude import producing_role
from secateur.importance.slices import AxisSlices


@dataclass(frozen=True)
class GeometricMedian:
    """The sum of distances to all other units, sum over j of |w_i - w_j|_2; w_i: output slices of unit i, end to end.

    Small near the geometric median of the units, where others can stand in; a unit of zeros need not score low.
    He et al., "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration", CVPR 2019,
    equation 6.
    """

    needs = frozenset[str]()

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        vectors = axis.vectors(producing_role(axis))
        return torch.cdist(vectors, vectors).sum(-1)
