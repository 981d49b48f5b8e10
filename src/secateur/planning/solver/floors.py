"""Floors of widths that are products of several axes: the floor applies to the product, not to each axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from secateur.cost.size_polynomials import Counts
from secateur.errors import TargetError
from secateur.graph.graph import Graph
from secateur.planning.selection.widths import Floor
from secateur.planning.solver.allocate import Allocation, Limits
from secateur.planning.solver.bundles import Bundle
from secateur.planning.solver.rungs import Chosen
from secateur.planning.targets import Target

MOST = 4096  # choices that are tried for bundles with a common width


def solved_above(
    floors: Sequence[Floor],
    graph: Graph,
    bundles: Sequence[Bundle],
    limits: Limits,
    targets: Sequence[Target],
    scope: str,
) -> Counts:
    """Return counts that meet targets and floors: factors of a product below its floor are limited to higher rungs.

    If that makes a target unreachable, the factors are limited where the floors cost least.
    """
    all_of_them = Allocation(graph, bundles, limits)
    try:
        while True:
            counts = Allocation(graph, bundles, limits).solve(targets, scope)
            higher = _lifted(graph, bundles, counts, floors)
            if higher is None:
                return counts
            bundles = higher
    except TargetError:
        least = _lowest(all_of_them, floors)
        if least is None:
            raise
        return Allocation(graph, least, limits).solve(targets, scope)


def _lifted(graph: Graph, bundles: Sequence[Bundle], counts: Counts, floors: Sequence[Floor]) -> list[Bundle] | None:
    """Return bundles limited so that products below their floors reach them; None if no bundle changes.

    Rung by rung, the factor with the least remaining share climbs.
    """
    lower, place = list(bundles), {g: (b, i) for b, bundle in enumerate(bundles) for i, g in enumerate(bundle.groups)}
    steps = [graph.groups[axis.group].steps for axis in graph.axes]
    for floor in floors:
        if math.prod(int(counts[i]) for i in floor.axes) >= floor.least:
            continue
        factors = {i: place[graph.axes[i].group] for i in floor.axes}
        rungs = {}
        for i, (b, at) in factors.items():
            level = int(counts[i]) * steps[i] // graph.axes[i].size
            rungs[b] = next(j for j, levels in enumerate(bundles[b].levels) if levels[at] == level)
        _climb(graph, bundles, floor, factors, rungs)
        for b, rung in rungs.items():
            lower[b] = min(lower[b], bundles[b].ending(rung), key=lambda bundle: len(bundle.levels))
    return lower if any(len(a.levels) < len(b.levels) for a, b in zip(lower, bundles, strict=True)) else None


def _climb(
    graph: Graph, bundles: Sequence[Bundle], floor: Floor, factors: dict[int, tuple[int, int]], rungs: dict[int, int]
) -> None:
    """Climb, by decreasing the numbers in `rungs`, until the product is at least its floor."""

    def count(i: int) -> int:
        b, at = factors[i]
        return bundles[b].levels[rungs[b]][at] * graph.axes[i].size // bundles[b].steps[at]

    while any(rungs.values()) and math.prod(map(count, factors)) < floor.least:
        low = min((i for i in factors if rungs[factors[i][0]]), key=lambda i: count(i) / graph.axes[i].size)
        rungs[factors[low][0]] -= 1


def _lowest(allocation: Allocation, floors: Sequence[Floor]) -> list[Bundle] | None:
    """Return bundles limited so that products reach their floors at the least cost; None if all do already."""
    graph, bundles, rungs = allocation.graph, allocation.bundles, allocation.rungs
    counts, chosen = rungs.counts(rungs.height), rungs.height.copy()
    broken = [floor for floor in floors if math.prod(int(counts[i]) for i in floor.axes) < floor.least]
    place = {g: b for b, bundle in enumerate(bundles) for g in bundle.groups}
    for members in _joined([{place[graph.axes[i].group] for i in floor.axes} for floor in broken]):
        mine = [floor for floor in floors if any(place[graph.axes[i].group] in members for i in floor.axes)]
        tried = np.tile(chosen, (len(choices := _choices(rungs.height[list(members)])), 1))
        tried[:, list(members)] = choices
        found = rungs.counts(tried)
        tried = tried[np.all([found[:, list(f.axes)].prod(1) >= f.least for f in mine], axis=0)]
        if len(tried):
            chosen = tried[np.argmin(allocation.budgets.excess(tried).max(-1))]
    return [b.ending(int(rung)) for b, rung in zip(bundles, chosen, strict=True)] if broken else None


def _joined(sets: Sequence[set[int]]) -> list[tuple[int, ...]]:
    """Return the sets with those that overlap merged."""
    joined: list[set[int]] = []
    for one in sets:
        meeting = [other for other in joined if other & one]
        joined = [other for other in joined if not other & one] + [one.union(*meeting)]
    return [tuple(sorted(one)) for one in joined]


def _choices(heights: Chosen) -> np.ndarray:
    """Return combinations of rungs of several bundles: all of them, or an even selection if there are many."""
    each = max(2, int(MOST ** (1 / len(heights))))
    taken = [np.unique(np.linspace(0, height, min(height + 1, each)).round().astype(np.intp)) for height in heights]
    return np.stack(np.meshgrid(*taken, indexing="ij"), -1).reshape(-1, len(heights))


__all__ = ["solved_above"]
