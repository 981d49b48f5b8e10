"""Criterion of redundancy: units close to all others can be replaced by them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from secateur.importance.magnitude import producing_role
from secateur.importance.slices import AxisSlices


@dataclass(frozen=True)
class GeometricMedian:
    """Sum of the distances to all other units, sum over j of |w_i - w_j|_2, of the concatenated output slices w_i.

    It is small near the geometric median of the units, where others can replace unit i. A unit of zeros need not score
    low.

    Reference:
        He et al., "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration", CVPR 2019,
        equation 6.
    """

    needs = frozenset[str]()

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        vectors = axis.vectors(producing_role(axis))
        return torch.cdist(vectors, vectors).sum(-1)
