"""Random scores, the baseline of every criterion."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import torch

from secateur.importance.slices import AxisSlices


@dataclass(frozen=True)
class Random:
    """Uniform scores in [0, 1) that depend only on `seed` and the name of the axis."""

    needs = frozenset[str]()
    seed: int = 0

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + zlib.crc32(axis.name.encode()))
        return torch.rand(axis.shape, generator=generator, dtype=torch.float64)
