"""Weighted combinations of criteria."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from secateur.errors import InputError
from secateur.importance.criterion import Criterion, needs_of
from secateur.importance.registry import named_criterion
from secateur.importance.slices import AxisSlices


@dataclass(frozen=True)
class Combined:
    """Weighted sum of several criteria's scores, each scaled to a mean of 1, or of their ranks; see `combine`."""

    parts: tuple[tuple[Criterion, float], ...]
    by: str

    @property
    def needs(self) -> frozenset[str]:
        """The statistics that any of the criteria needs."""
        return frozenset().union(*(needs_of(criterion) for criterion, _ in self.parts))

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return torch.stack([weight * self._scaled(axis, criterion(axis)) for criterion, weight in self.parts]).sum(0)

    def _scaled(self, axis: AxisSlices, scores: torch.Tensor) -> torch.Tensor:
        scores = torch.as_tensor(scores).double()
        if self.by == "sum":
            return axis.normalised(scores, "mean")
        return (axis.order(scores) + 1.0) / scores.shape[-1]


def combine(parts: Mapping[str | Criterion, float], *, by: str = "sum", seed: int = 0) -> Criterion:
    """Combine several criteria into one.

    The combination is our own; each criterion names its source.

    Args:
        parts: The positive weight w_k of each criterion, by name or callable.
        by: "sum" adds the scores s_k, each divided by its mean over the axis: sum_k w_k s_k / mean(s_k). "rank" adds
            w_k times the rank, from 1 / n for the lowest of n units to 1 for the highest.
        seed: Seed of the "random" criterion.

    Returns:
        The criterion, which needs the statistics of all its parts.

    Raises:
        InputError: A name is unknown, a weight is not a positive number, or `by` is neither "sum" nor "rank".

    Example:
        >>> import secateur
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        >>> graph = secateur.trace(net, torch.zeros(1, 4))
        >>> both = combine({"l1": 0.7, "fpgm": 0.3}, by="rank")
        >>> secateur.plan(graph, "channels=0.5", importance=both).axes["0"].kept_count
        4
    """
    if by not in ("sum", "rank"):
        raise InputError(f"by={by!r}; one of 'sum', 'rank'")
    if not parts:
        raise InputError("combine got no criteria\ngive weights by name, as in {'taylor': 0.7, 'l2': 0.3}")
    for name, weight in parts.items():
        if not (math.isfinite(weight) and weight > 0):
            raise InputError(f"combine got the weight {weight!r} for {name!r}\ngive a number above 0")
    return Combined(tuple((named_criterion(name, seed), float(weight)) for name, weight in parts.items()), by)
