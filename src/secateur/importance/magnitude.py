"""Magnitude of the weights that produce a unit."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from secateur.errors import InputError
from secateur.importance.slices import AxisSlices


def producing_role(axis: AxisSlices) -> str:
    """Return the role whose slices produce the unit; scale, shift or input for an axis that no layer produces."""
    return next((role for role in ("output", "scale", "shift") if axis.has(role)), "input")


def stand_in(axis: AxisSlices) -> torch.Tensor:
    """Return the L2 norm divided by its mean: the scores of an axis on which calibration recorded nothing."""
    return axis.normalised(L2()(axis), "mean")


@dataclass(frozen=True)
class Lp:
    """p-norm of all output slices of a unit, (sum |w|^p)^(1/p), over w[i, ...] of every layer that produces unit i.

    Args:
        p: The exponent. Below 1, the number of nonzero weights matters more than their size.

    Raises:
        InputError: `p` is not positive.

    Example:
        >>> import secateur
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        >>> graph = secateur.trace(net, torch.zeros(1, 4))
        >>> secateur.plan(graph, "channels=0.5", importance=Lp(p=3)).axes["0"].kept_count
        4

    Reference:
        Wen et al., "Learning Structured Sparsity in Deep Neural Networks", NIPS 2016, equation 2 (p = 2).
    """

    needs = frozenset[str]()
    p: float = 0.5

    def __post_init__(self) -> None:
        if not self.p > 0:
            raise InputError(f"p={self.p!r} is not the exponent of a p-norm\ngive a number above 0")

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return axis.power_sum(producing_role(axis), self.p) ** (1 / self.p)


@dataclass(frozen=True)
class L1(Lp):
    """Sum of absolute weights over all output slices of a unit, |w|_1.

    Reference:
        Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, section 3.1.
    """

    p: float = 1


@dataclass(frozen=True)
class L2(Lp):
    """Euclidean norm of all output slices of a unit, |w|_2.

    Reference:
        He et al., "Soft Filter Pruning for Accelerating Deep Convolutional Neural Networks", IJCAI 2018, equation 2
        with p = 2, over every layer that produces the unit.
    """

    p: float = 2
