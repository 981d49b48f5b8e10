"""How many steps each group keeps, so that every target is met from below and as closely as the steps allow.

Of all choices that meet the targets, scope "global" looks for the one that keeps the greatest sum of scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..cost import Cost, Counts
from ..errors import TargetError
from ..graph import Graph
from .budgets import Budget, Budgets
from .bundles import Bundle
from .knapsack import solve
from .rungs import Chosen, Rungs
from .targets import Target
from .walk import walked

SCOPES = ("global", "axis")


@dataclass(frozen=True)
class Limits:
    """Targets as counts: the most that may remain of each cost that has one, and the share of every axis."""

    costs: Mapping[str, int]
    share: float = 1.0  # from a `channels` target

    @staticmethod
    def of(graph: Graph, targets: Sequence[Target]) -> Limits:
        costs: dict[str, int] = {}
        share = 1.0
        for target in targets:
            if target.kind == "channels":
                share = min(share, target.value)
            elif target.kind in Cost.KINDS:  # depth was met before
                limit = target.limit(getattr(graph.totals, target.kind))
                costs[target.kind] = min(costs.get(target.kind, limit), limit)
        return Limits(costs, share)


class Allocation:
    """Rungs chosen for bundles of groups, and their cost."""

    def __init__(self, graph: Graph, bundles: Sequence[Bundle], limits: Limits):
        self.graph, self.bundles, self.limits = graph, bundles, limits
        self.cost, self.rungs = Cost.of(graph), Rungs(graph, bundles)
        kinds = limits.costs.items()
        self.budgets = Budgets(self.rungs, [Budget(self.cost.of_kind(kind), limit) for kind, limit in kinds])

    def solve(self, targets: Sequence[Target], scope: str) -> Counts:
        """Units per axis. Raises `TargetError` with the smallest reachable value where the lowest rungs do not fit."""
        start = np.array([bundle.first(self.limits.share) for bundle in self.bundles], dtype=np.intp)
        if not len(self.budgets) or self.budgets.fit(start):
            return self.rungs.counts(start)
        if not self.budgets.fit(self.rungs.height):
            raise self._unreachable(targets)
        return self.rungs.counts(self._chosen(start, scope))

    def _chosen(self, start: Chosen, scope: str) -> Chosen:
        if scope == "global":
            return solve(self.budgets, start)
        prices = [np.array(bundle.price, dtype=np.float64) for bundle in self.bundles]
        return walked(self.rungs, np.concatenate(prices), start, lambda chosen: bool(self.budgets.fit(chosen)))

    def _unreachable(self, targets: Sequence[Target]) -> TargetError:
        counts, lines = self.rungs.counts(self.rungs.height), []
        for target in targets:
            kind = target.kind
            if kind in self.limits.costs:
                least, total = self.cost.of_kind(kind)(counts), getattr(self.graph.totals, kind)
                if least > target.limit(total):
                    share = math.ceil(least / total * 1e4) / 1e4
                    lines.append(
                        f"target {target} cannot be reached: the smallest possible is {least:,} ({kind}={share:g})"
                    )
        hint = "lower select.floor, protect and fix less, or see print(graph) for what is frozen and why"
        return TargetError("\n".join([*lines, hint]))


__all__ = ["SCOPES", "Allocation", "Limits"]
