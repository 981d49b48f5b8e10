"""The interface of a criterion: a function from `AxisSlices` to one score per unit, with two optional attributes.

`needs` names the statistics that calibration must collect (`secateur.statistics.NEEDS`); none by default. `norm` names
the divisor of its scores on each axis, which makes axes comparable (`secateur.importance.slices.NORMS`); their mean by
default.
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
    """Return the names of the statistics that calibration must collect for a criterion."""
    return frozenset(getattr(criterion, "needs", ()))


def norm_of(criterion: Criterion) -> str:
    """Return the name of the divisor of a criterion's scores."""
    return getattr(criterion, "norm", "mean")


@dataclass(frozen=True)
class Normalised:
    """A criterion with another divisor of its scores on each axis; the string form is "taylor/none".

    Args:
        criterion: Any criterion.
        norm: "none", "mean", "max", "sum" or "l2".

    Raises:
        InputError: `norm` is something else.

    Example:
        >>> import secateur
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        >>> graph = secateur.trace(net, torch.zeros(1, 4))
        >>> float(secateur.importance.score(graph, "l1/max")["0"].max())
        1.0
    """

    criterion: Criterion
    norm: str

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise InputError(
                f"scores cannot be normalised by {self.norm!r}{nearest(self.norm, NORMS)}\nknown: {', '.join(NORMS)}"
            )

    @property
    def needs(self) -> frozenset[str]:
        """The statistics that the criterion needs."""
        return needs_of(self.criterion)

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        """Return the scores undivided: `score` divides those of axes, and blocks are compared without division."""
        return self.criterion(axis)
