"""Magnitude of the weights that make a unit."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from secateur.errors import InputError
from secateur.importance.slices import AxisSlices


def producing_role(axis: AxisSlices) -> str:
    """The role whose slices make the unit; an axis that no layer puts out is judged by whatever it scales or shifts."""
    return next((role for role in ("output", "scale", "shift") if axis.has(role)), "input")


def stand_in(axis: AxisSlices) -> torch.Tensor:
    """For a criterion of what data tell, where they told nothing of an axis: the L2 norm, divided by its mean."""
    return axis.normalised(L2()(axis), "mean")


@dataclass(frozen=True)
class Lp:
    """The p-norm of all output slices of a unit, (sum |w|^p)^(1/p); w of unit i: (i, ...) of every layer that puts i
    out.

    p below 1 counts weights more than it weighs them. Raises `InputError` for a p that is not positive.
    Wen et al., "Learning Structured Sparsity in Deep Neural Networks", NeurIPS 2016, equation 2 (p = 2).

    >>> import secateur, torch
    >>> graph = secateur.trace(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)), torch.zeros(1, 4))
    >>> secateur.plan(graph, "channels=0.5", importance=Lp(p=3)).axes["0"].kept_count
    4
    """

    needs = frozenset[str]()
    p: float = 0.5

    def __post_init__(self) -> None:
        if not self.p > 0:
            raise InputError(f"p={self.p!r} of a p-norm; give a number above 0")

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return axis.power_sum(producing_role(axis), self.p) ** (1 / self.p)


@dataclass(frozen=True)
class L1(Lp):
    """Sum of absolute weights over all output slices of a unit, |w|_1.

    Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, section 3.1.
    """

    p: float = 1


@dataclass(frozen=True)
class L2(Lp):
    """Euclidean norm over all output slices of a unit, |w|_2.

    He et al., "Soft Filter Pruning", IJCAI 2018, equation 2 with p = 2, over every layer that puts the unit out.
    """

    p: float = 2
