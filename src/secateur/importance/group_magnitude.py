"""Magnitude of all weights that are removed with a unit."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from secateur.importance.magnitude import producing_role
from secateur.importance.slices import AxisSlices

COUPLED = ("output", "input", "scale")


@dataclass(frozen=True)
class GroupNorm:
    """p-norm of all weights that are removed with unit i, (sum |w|^p)^(1/p).

    They are the rows w[i] of the layers that produce it, the columns w[:, i] of those that read it, and the scales of
    its normalization layers.

    Reference:
        Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, equation 6 (p = 2).
    """

    needs = frozenset[str]()
    p: float = 2

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        roles = [role for role in COUPLED if axis.has(role)] or [producing_role(axis)]
        return torch.stack([axis.power_sum(role, self.p) for role in roles]).sum(0) ** (1 / self.p)
