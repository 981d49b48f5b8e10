"""Bundles: groups that keep the same share and move together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from secateur.base.text import listed
from secateur.errors import InputError
from secateur.graph.graph import Graph
from secateur.planning.selection.limits_by_axis import Wishes
from secateur.planning.solver.ladders import Ladder


@dataclass(frozen=True)
class Bundle:
    """Groups that share their rungs: on rung j, `groups[i]` keeps `levels[j][i]` of its `steps[i]` steps.

    `price[j]` is the mean score of what goes between rungs j and j + 1; a step of `groups[i]` counts `worth[i]` times.
    """

    groups: tuple[int, ...]
    steps: tuple[int, ...]
    worth: tuple[int, ...]
    levels: tuple[tuple[int, ...], ...]
    price: tuple[float, ...]

    @staticmethod
    def of(group: int, steps: int, worth: int, ladder: Ladder) -> Bundle:
        """Return a bundle of a single group."""
        return Bundle((group,), (steps,), (worth,), tuple((level,) for level in ladder.levels), ladder.price)

    @property
    def loss(self) -> npt.NDArray[np.float64]:
        """The sum of scores that each descent removes."""
        return -np.diff(self.levels, axis=0) @ np.array(self.worth) * np.array(self.price, dtype=np.float64)

    def first(self, share: float) -> int:
        """Return the highest rung on which every group is within a share of its steps, or the lowest rung."""
        limits = [math.floor(share * steps + 1e-9) for steps in self.steps]
        within = (all(x <= limit for x, limit in zip(rung, limits, strict=True)) for rung in self.levels)
        return next((j for j, fits in enumerate(within) if fits), len(self.levels) - 1)

    def at(self, rung: int) -> Bundle:
        """Return the same bundle with one rung only."""
        return replace(self, levels=self.levels[rung : rung + 1], price=())

    def only(self, left: npt.NDArray[np.bool_]) -> Bundle:
        """Return the same bundle with only these rungs; the price of a longer descent is the mean of those it spans."""
        places = np.flatnonzero(left)
        levels = np.array(self.levels)[places]
        lost = np.append(0.0, np.cumsum(-np.diff(self.levels, axis=0) @ np.array(self.worth) * np.array(self.price)))
        prices = np.diff(lost[places]) / (-np.diff(levels, axis=0) @ np.array(self.worth))
        return replace(self, levels=tuple(map(tuple, levels.tolist())), price=_rising(prices))

    def ending(self, rung: int) -> Bundle:
        """Return the same bundle without the rungs below `rung`."""
        return replace(self, levels=self.levels[: rung + 1], price=self.price[:rung])


def bundled(graph: Graph, rungs: Sequence[Ladder], wishes: Wishes, worth: Sequence[int]) -> list[Bundle]:
    """Return a bundle for each set of groups that move together, and one for each other group."""
    bundles: list[Bundle] = []
    for groups, by in wishes.together:
        bundles.append(_joined(graph, sorted(groups), rungs, worth, by))
    joined = {g for bundle in bundles for g in bundle.groups}
    alone = [Bundle.of(g, x.steps, worth[g], rungs[g]) for g, x in enumerate(graph.groups) if g not in joined]
    return sorted([*bundles, *alone], key=lambda bundle: bundle.groups)


def _joined(graph: Graph, groups: Sequence[int], rungs: Sequence[Ladder], worth: Sequence[int], by: str) -> Bundle:
    """Return a bundle with rungs at every share of one group that all groups can follow, each rounded down.

    Fixed sizes are kept exactly; several fixed sizes may differ by the rounding.
    """
    steps, ladders = [graph.groups[g].steps for g in groups], [rungs[g] for g in groups]
    pairs = list(zip(ladders, steps, strict=True))
    shares = np.unique(np.concatenate([np.array(ladder.levels) / n for ladder, n in pairs]))[::-1]
    low = max(ladder.bottom / n for ladder, n in pairs)
    high = min(ladder.levels[0] / n for ladder, n in pairs)
    near = min((ladder.levels[0] + 1) / n for ladder, n in pairs)
    common = shares[(low <= shares) & (shares <= high if low <= high else shares < near)]
    if not len(common):
        raise _apart(graph, groups, rungs, by)
    levels = np.stack([_at(common, ladder, n) for ladder, n in pairs], axis=1)
    levels = levels[np.append(True, np.diff(levels, axis=0).any(1))]
    rows = tuple(map(tuple, levels.tolist()))
    counted = tuple(worth[g] for g in groups)
    return Bundle(tuple(groups), tuple(steps), counted, rows, _prices(levels, ladders, counted))


def _at(shares: np.ndarray, ladder: Ladder, steps: int) -> np.ndarray:
    """Return the highest level of a ladder within each share of its steps, or its lowest level."""
    rising = np.array(ladder.levels[::-1])
    within = np.searchsorted(rising, np.floor(shares * steps + 1e-9), side="right") - 1
    return rising[np.maximum(within, 0)]


def _prices(levels: np.ndarray, ladders: Sequence[Ladder], worth: Sequence[int]) -> tuple[float, ...]:
    """Return the mean price of the steps of each descent, never less than an earlier one."""
    lost = sum(n * _lost(ladder, levels[:, i]) for i, (ladder, n) in enumerate(zip(ladders, worth, strict=True)))
    return _rising(np.diff(lost) / -np.diff(levels @ np.array(worth)))


def _rising(prices: np.ndarray) -> tuple[float, ...]:
    return tuple(np.maximum.accumulate(prices).tolist())


def _lost(ladder: Ladder, levels: np.ndarray) -> np.ndarray:
    """Return the price of all steps from the top of a ladder down to each of these levels."""
    steps = -np.diff(np.array(ladder.levels))
    total = np.append(0.0, np.cumsum(np.array(ladder.price) * steps))
    places = np.searchsorted(-np.array(ladder.levels), -levels)
    return total[places]


def _apart(graph: Graph, groups: Sequence[int], rungs: Sequence[Ladder], by: str) -> InputError:
    told = []
    for g in groups:
        axis, ladder = graph.groups[g].axes[0], rungs[g]
        unit = axis.size // graph.groups[g].steps
        low, high = ladder.bottom * unit, ladder.levels[0] * unit
        told.append(f"{axis.name} keeps {low if low == high else f'{low} to {high}'} of {axis.size}")
    return InputError(f"{by} asks for the same share, but {listed(told, 4)}")


__all__ = ["Bundle", "bundled"]
