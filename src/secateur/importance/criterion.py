"""What a criterion is: a function from `AxisSlices` to one score per unit, which may say what it needs.

needs: what calibration must collect for it (`secateur.statistics.NEEDS`); none by default. norm: what its scores are
divided by, axis by axis, so that axes compare (`secateur.importance.slices.NORMS`); their mean by default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch

from secateur.errors import InputError, nearest
from secateur.importance.slices import NORMS, AxisSlices

Criterion: TypeAlias = "Callable[[AxisSlices], torch.Tensor]"


def needs_of(criterion: Criterion) -> frozenset[str]:
    """What calibration must collect for a criterion."""
    return frozenset(getattr(criterion, "needs", ()))


def norm_of(criterion: Criterion) -> str:
    """What its scores are divided by."""
    return getattr(criterion, "norm", "mean")


@dataclass(frozen=True)
class Normalised:
    """A criterion whose scores are divided, axis by axis, by what `norm` names: "none", "mean", "max", "sum" or "l2".

    As text: "taylor/none". Raises `InputError` for another norm.

    >>> import secateur, torch
    >>> graph = secateur.trace(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)), torch.zeros(1, 4))
    >>> float(secateur.importance.score(graph, "l1/max")["0"].max())
    1.0
    """

    criterion: Criterion
    norm: str

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise InputError(
                f"scores are not normalised by {self.norm!r}{nearest(self.norm, NORMS)}\nknown: {', '.join(NORMS)}"
            )

    @property
    def needs(self) -> frozenset[str]:
        """Those of the criterion."""
        return needs_of(self.criterion)

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        """As they are: whoever compares axes divides, and blocks are compared as they are."""
        return self.criterion(axis)
