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
    if scope == "axis":
        return Ladder(levels, tuple(1 - level / group.steps for level in levels[1:]))
    worth = _step_scores(group, scores)
    prices = [float(worth[group.steps - a : group.steps - b].mean()) for a, b in zip(levels, levels[1:], strict=False)]
    return Ladder(levels, tuple(np.maximum.accumulate(prices).tolist()) if prices else ())


def _levels(group: Group, select: Select) -> tuple[int, ...]:
    """All steps, then every lower level at which each axis is aligned and above its floor."""
    lower = range(group.steps - 1, 0, -1)
    return (group.steps, *(level for level in lower if all(_allowed(a, group, level, select) for a in group.axes)))


def _allowed(axis: PrunableAxis, group: Group, level: int, select: Select) -> bool:
    count = axis.size // group.steps * level
    return count >= select.least(axis) and count % select.align == 0


def _step_scores(group: Group, scores: Mapping[str, torch.Tensor]) -> np.ndarray:
    """Step by step, worst first, the mean score of the units that go."""
    total = np.zeros(group.steps)
    for axis in group.axes:
        ranked = np.sort(scores[axis.name].numpy(), axis=-1)
        per_rank = ranked.reshape(-1, axis.size).mean(0)
        total += per_rank.reshape(group.steps, -1).mean(1)
    return total / len(group.axes)


def kept_units(axis: PrunableAxis, count: int, scores: torch.Tensor) -> tuple:  # type: ignore[type-arg]
    """The `count` units with the highest scores, in order; ties fall to the lower index. Per outer unit if it has one."""
    rows = scores.reshape(-1, axis.size).numpy()
    best = [tuple(sorted(np.argsort(-row, kind="stable")[:count].tolist())) for row in rows]
    return tuple(best) if axis.outer is not None else best[0]


def descents(rungs: Sequence[Ladder]) -> list[tuple[float, int, int]]:
    """Every descent of every ladder as (price, group, rung), cheapest first; ties break by index."""
    return sorted((price, g, j) for g, ladder in enumerate(rungs) for j, price in enumerate(ladder.price))
