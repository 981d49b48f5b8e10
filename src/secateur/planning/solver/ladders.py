"""Ladders: the levels to which each group of tied axes can be cut, its least important units first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from secateur.graph.graph import Graph
from secateur.graph.parts import Group, PrunableAxis
from secateur.planning.selection.limits_by_axis import Said, Wishes


@dataclass(frozen=True)
class Ladder:
    """The allowed levels of a group, from all of its steps down, and the price of each descent.

    `levels[0]` is the start; `price[j]` is the mean score per step removed between levels j and j + 1, never less than
    an earlier price, so that cheaper descents come first.
    """

    levels: tuple[int, ...]
    price: tuple[float, ...]

    @property
    def bottom(self) -> int:
        return self.levels[-1]


@runtime_checkable
class MeasuredHarm(Protocol):
    """Measured harm of cutting each group, such as `secateur.probing.Sensitivity`."""

    def check(self, graph: Graph, groups: Sequence[Group]) -> None:
        """Raise `InputError` unless these groups of a graph were measured."""
        ...

    def prices(self, group: Group, levels: Sequence[int]) -> tuple[float, ...]:
        """Return the harm per step of each descent between levels, never decreasing."""
        ...

    @property
    def stays(self) -> Mapping[str, str]:
        """The groups that cannot be cut alone: name of the first axis -> reason."""
        ...


def ladders(
    graph: Graph, scores: Mapping[str, torch.Tensor], wishes: Wishes, scope: str, measured: MeasuredHarm | None = None
) -> list[Ladder]:
    """Return one ladder per group."""
    rungs = _by_scores(graph, scores, wishes, scope)
    if measured is None:
        return rungs
    free = [g for g, ladder in enumerate(rungs) if len(ladder.levels) > 1]
    measured.check(graph, [graph.groups[g] for g in free])
    for g in free:
        rungs[g] = _repriced(graph.groups[g], rungs[g], measured)
    return rungs


def _repriced(group: Group, ladder: Ladder, measured: MeasuredHarm) -> Ladder:
    if group.axes[0].name in measured.stays:
        return Ladder(ladder.levels[:1], ())
    return Ladder(ladder.levels, measured.prices(group, ladder.levels))


def _by_scores(graph: Graph, scores: Mapping[str, torch.Tensor], wishes: Wishes, scope: str) -> list[Ladder]:
    out = []
    for i, group in enumerate(graph.groups):
        axis, said = wishes.sizes.get(i, (None, None))
        if axis is not None and said is not None and said.word == "width":
            out.append(Ladder((wishes.level(axis, said),), ()))
        elif i in wishes.held:
            out.append(Ladder((group.steps,), ()))
        else:
            ladder = _ladder(group, scores, wishes, scope)
            out.append(ladder if said is None else Ladder((_kept_level(ladder, said, group),), ()))
    return out


def _kept_level(ladder: Ladder, said: Said, group: Group) -> int:
    """Return the highest level within a share of the steps."""
    return ladder.levels[highest(ladder.levels, math.floor(said.value * group.steps + 1e-9))]


def highest(levels: Sequence[int], limit: float) -> int:
    """Return the index of the highest level within a limit, or of the lowest level."""
    return next((j for j, level in enumerate(levels) if level <= limit), len(levels) - 1)


def _ladder(group: Group, scores: Mapping[str, torch.Tensor], wishes: Wishes, scope: str) -> Ladder:
    levels = allowed_levels(group, wishes)
    gone = group.steps - levels
    if scope == "axis":
        return Ladder(tuple(levels.tolist()), tuple((gone[1:] / group.steps).tolist()))
    lost = np.concatenate([[0.0], np.cumsum(_step_scores(group, scores))])[gone]
    prices = np.diff(lost) / np.diff(gone)
    return Ladder(tuple(levels.tolist()), tuple(np.maximum.accumulate(prices).tolist()))


def allowed_levels(group: Group, wishes: Wishes) -> np.ndarray:
    """Return the levels at which each axis is within floor and ceiling, and the conditions in the code hold.

    Below all steps, each axis is aligned too.
    """
    levels = np.arange(group.steps, 0, -1)
    for axis in group.axes:
        counts = axis.size // group.steps * levels
        aligned = (counts % wishes.align(axis) == 0) | (levels == group.steps)
        levels = levels[(counts >= wishes.least(axis)) & (counts <= wishes.most(axis)) & aligned]
        if not len(levels):
            raise wishes.nothing_left(group, axis)
    within = wishes.conditions.within(group, levels)
    if not len(within):
        raise wishes.conditions.nothing_left(group, levels)
    return within


def _step_scores(group: Group, scores: Mapping[str, torch.Tensor]) -> np.ndarray:
    """Return the mean score of the units that each step removes, lowest first."""
    total = np.zeros(group.steps)
    for axis in group.axes:
        ranked = np.sort(scores[axis.name].numpy(), axis=-1)
        per_rank = ranked.reshape(-1, axis.size).mean(0)
        total += per_rank.reshape(group.steps, -1).mean(1)
    return total / len(group.axes)


def kept_units(axis: PrunableAxis, count: int, scores: torch.Tensor) -> tuple:  # type: ignore[type-arg]
    """Return the `count` units with the highest scores, sorted (per outer unit); ties go to the lower index."""
    rows = scores.reshape(-1, axis.size).numpy()
    best = [tuple(sorted(np.argsort(-row, kind="stable")[:count].tolist())) for row in rows]
    return tuple(best) if axis.outer is not None else best[0]
