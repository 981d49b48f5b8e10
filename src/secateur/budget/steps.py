"""The order in which units would go: each group of tied axes falls from level to level, its worst units first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..graph import Graph, Group, PrunableAxis
from .select import Select


@dataclass(frozen=True)
class Ladder:
    """The allowed levels of a group, from all of its steps down, and what each descent costs.

    `levels[0]` is where it starts; `price[j]` is the score of what goes between levels j and j + 1, never less than
    an earlier price, so that cheaper descents come first.
    """

    levels: tuple[int, ...]
    price: tuple[float, ...]

    @property
    def bottom(self) -> int:
        return self.levels[-1]


def ladders(graph: Graph, scores: Mapping[str, torch.Tensor], select: Select, scope: str) -> list[Ladder]:
    """One ladder per group."""
    protected, fixed = select.protected(graph), select.fixed(graph)
    out = []
    for i, group in enumerate(graph.groups):
        if i in fixed:
            out.append(Ladder((fixed[i],), ()))
        elif i in protected:
            out.append(Ladder((group.steps,), ()))
        else:
            out.append(_ladder(group, scores, select, scope))
    return out


def _ladder(group: Group, scores: Mapping[str, torch.Tensor], select: Select, scope: str) -> Ladder:
    levels = _levels(group, select)
    gone = group.steps - levels
    if scope == "axis":
        return Ladder(tuple(levels.tolist()), tuple((gone[1:] / group.steps).tolist()))
    lost = np.concatenate([[0.0], np.cumsum(_step_scores(group, scores))])[gone]
    prices = np.diff(lost) / np.diff(gone)
    return Ladder(tuple(levels.tolist()), tuple(np.maximum.accumulate(prices).tolist()))


def _levels(group: Group, select: Select) -> np.ndarray:
    """All steps, then every lower level at which each axis is aligned and above its floor."""
    lower = np.arange(group.steps - 1, 0, -1)
    for axis in group.axes:
        counts = axis.size // group.steps * lower
        lower = lower[(counts >= select.least(axis)) & (counts % select.align == 0)]
    return np.concatenate([[group.steps], lower])


def _step_scores(group: Group, scores: Mapping[str, torch.Tensor]) -> np.ndarray:
    """Step by step, worst first, the mean score of the units that go."""
    total = np.zeros(group.steps)
    for axis in group.axes:
        ranked = np.sort(scores[axis.name].numpy(), axis=-1)
        per_rank = ranked.reshape(-1, axis.size).mean(0)
        total += per_rank.reshape(group.steps, -1).mean(1)
    return total / len(group.axes)


def kept_units(axis: PrunableAxis, count: int, scores: torch.Tensor) -> tuple:  # type: ignore[type-arg]
    """The `count` units with the highest scores, in order (per outer unit); ties fall to the lower index."""
    rows = scores.reshape(-1, axis.size).numpy()
    best = [tuple(sorted(np.argsort(-row, kind="stable")[:count].tolist())) for row in rows]
    return tuple(best) if axis.outer is not None else best[0]


def descents(rungs: Sequence[Ladder]) -> list[tuple[float, int, int]]:
    """Every descent of every ladder as (price, group, rung), cheapest first; ties break by index."""
    return sorted((price, g, j) for g, ladder in enumerate(rungs) for j, price in enumerate(ladder.price))
