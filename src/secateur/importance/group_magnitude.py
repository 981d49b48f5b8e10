"""Magnitude of all weights that go with a unit."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from secateur.importance.magnitude import producing_role
from secateur.importance.slices import AxisSlices

COUPLED = ("output", "input", "scale")


@dataclass(frozen=True)
class GroupNorm:
    """The p-norm over all that is dropped with a unit i: rows w[i] of what puts it out, columns w[:, i] of what reads
    it, and the scales of its norms, (sum over all of |w|^p)^(1/p).

    Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, equation 6 (p = 2).
    """

    needs = frozenset[str]()
    p: float = 2

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        roles = [role for role in COUPLED if axis.has(role)] or [producing_role(axis)]
        return torch.stack([axis.power_sum(role, self.p) for role in roles]).sum(0) ** (1 / self.p)
