"""How many steps each group keeps, so that every target is met from below and as closely as the steps allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..cost import Cost, Counts
from ..errors import TargetError
from ..graph import Graph
from .bundles import Bundle
from .steps import descents
from .targets import Target


@dataclass(frozen=True)
class Limits:
    """Targets as counts."""

    params: float
    macs: float
    share: float  # of every axis, from a `channels` target

    @staticmethod
    def of(graph: Graph, targets: Sequence[Target]) -> Limits:
        least = {"params": math.inf, "macs": math.inf, "channels": 1.0}
        totals = {"params": graph.totals.params, "macs": graph.totals.macs}
        for target in targets:
            if target.kind not in least:  # depth was met before
                continue
            limit = target.value if target.kind == "channels" else target.limit(totals[target.kind])
            least[target.kind] = min(least[target.kind], limit)
        return Limits(least["params"], least["macs"], least["channels"])


class Allocation:
    """Rungs chosen for bundles of groups, and their cost."""

    def __init__(self, graph: Graph, bundles: Sequence[Bundle], limits: Limits):
        self.graph, self.bundles, self.limits = graph, bundles, limits
        self.cost = Cost.of(graph)
        self._unit = np.array([axis.size // graph.groups[axis.group].steps for axis in graph.axes], dtype=np.int64)
        self._group = np.array([axis.group for axis in graph.axes], dtype=np.intp)

    def counts(self, chosen: Sequence[int]) -> Counts:
        """Units per axis when each bundle stands on its chosen rung."""
        levels = np.zeros(len(self.graph.groups), dtype=np.int64)
        for bundle, j in zip(self.bundles, chosen, strict=True):
            for group, level in zip(bundle.groups, bundle.levels[j], strict=True):
                levels[group] = level
        return levels[self._group] * self._unit if len(levels) else self.cost.full

    def fits(self, chosen: Sequence[int]) -> bool:
        counts = self.counts(chosen)
        return self.cost.params(counts) <= self.limits.params and self.cost.macs(counts) <= self.limits.macs

    def solve(self, targets: Sequence[Target]) -> Counts:
        """Walk down the cheapest descents until everything fits, then take back what still fits.

        Raises `TargetError` with the smallest reachable value where the lowest rungs do not fit.
        """
        start = [bundle.first(self.limits.share) for bundle in self.bundles]
        if math.isinf(self.limits.params) and math.isinf(self.limits.macs):
            return self.counts(start)
        order = [(b, j + 1) for _, b, j in descents(self.bundles) if j + 1 > start[b]]
        low, high = 0, len(order)
        if not self.fits(self._after(start, order)):
            raise self._unreachable(targets, self._after(start, order))
        while low < high:
            middle = (low + high) // 2
            if self.fits(self._after(start, order[:middle])):
                high = middle
            else:
                low = middle + 1
        return self.counts(self._taken_back(start, order[:low]))

    @staticmethod
    def _after(start: Sequence[int], order: Sequence[tuple[int, int]]) -> list[int]:
        chosen = list(start)
        for b, j in order:
            chosen[b] = max(chosen[b], j)
        return chosen

    def _taken_back(self, start: Sequence[int], order: Sequence[tuple[int, int]]) -> list[int]:
        """Climb again, dearest first; a bundle that no longer fits has had its turn."""
        chosen = self._after(start, order)
        done: set[int] = set()
        for b, _ in reversed(order):
            if b in done:
                continue
            chosen[b] -= 1
            if not self.fits(chosen):
                chosen[b] += 1
                done.add(b)
        return chosen

    def _unreachable(self, targets: Sequence[Target], lowest: Sequence[int]) -> TargetError:
        counts = self.counts(lowest)
        least = {"params": self.cost.params(counts), "macs": self.cost.macs(counts)}
        totals = {"params": self.graph.totals.params, "macs": self.graph.totals.macs}
        lines = []
        for target in targets:
            if target.kind in least and least[target.kind] > target.limit(totals[target.kind]):
                kind = target.kind
                share = math.ceil(least[kind] / totals[kind] * 1e4) / 1e4
                lines.append(
                    f"target {target} cannot be reached: the smallest possible is {least[kind]:,} ({kind}={share:g})"
                )
        hint = "lower select.floor, protect and fix less, or see print(graph) for what is frozen and why"
        return TargetError("\n".join([*lines, hint]))
