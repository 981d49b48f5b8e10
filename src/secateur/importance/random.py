"""Chance, the yardstick of every criterion."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import torch

from secateur.importance.slices import AxisSlices


@dataclass(frozen=True)
class Random:
    """Uniform scores from `seed` and the axis' name, so that one axis' scores do not depend on the others."""

    needs = frozenset[str]()
    seed: int = 0

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + zlib.crc32(axis.name.encode()))
        return torch.rand(axis.shape, generator=generator, dtype=torch.float64)
