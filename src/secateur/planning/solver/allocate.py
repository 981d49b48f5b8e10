"""Allocation of steps to groups, so that every target is met as closely as whole steps allow.

Of all choices that meet the targets, scope "global" searches for the one that keeps the greatest sum of scores. In the
other scopes the shares of all axes, or of the axes of a class (`isomorphic.py`), go down together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from secateur.base.text import numeral
from secateur.cost.kinds import CHANNELS, KINDS, CostFunction, Number, value_at
from secateur.cost.size_polynomials import Counts, Slopes
from secateur.errors import TargetError
from secateur.graph.frozen_text import holding_out
from secateur.graph.graph import Graph
from secateur.planning.solver.budgets import Budget, Budgets
from secateur.planning.solver.bundles import Bundle
from secateur.planning.solver.isomorphic import classes, keys
from secateur.planning.solver.knapsack import solve
from secateur.planning.solver.rungs import Chosen, Rungs
from secateur.planning.solver.shared_order import walked
from secateur.planning.solver.spread import spread
from secateur.planning.targets import Target, smallest

SCOPES = ("global", "axis", "isomorphic")


@dataclass(frozen=True)
class Limits:
    """Targets as counts: the most that may remain of each limited cost, and the share of every axis."""

    costs: Mapping[str, Number]
    share: float = 1.0  # from a `channels` target

    @staticmethod
    def of(graph: Graph, targets: Sequence[Target]) -> Limits:
        costs: dict[str, Number] = {}
        share = 1.0
        for target in targets:
            if target.kind == CHANNELS:
                share = min(share, target.value)
            elif KINDS[target.kind].cost is not None:  # depth is already met
                limit = target.limit(_total(graph, target.kind))
                costs[target.kind] = min(costs.get(target.kind, limit), limit)
        return Limits(costs, share)


class Allocation:
    """The choice of a rung for each bundle of groups under the limits."""

    def __init__(self, graph: Graph, bundles: Sequence[Bundle], limits: Limits):
        self.graph, self.bundles, self.limits = graph, bundles, limits
        self.rungs = Rungs(graph, bundles)
        self.costs = {kind: _cost(graph, kind) for kind in limits.costs}
        self.budgets = Budgets(self.rungs, [Budget(self.costs[kind], limit) for kind, limit in limits.costs.items()])

    def solve(self, targets: Sequence[Target], scope: str) -> Counts:
        """Return units per axis. Raises `TargetError`, with the least reachable value, if no rungs fit."""
        start = spread(self.graph, self.bundles, self.limits.share)
        if not len(self.budgets) or self.budgets.fit(start):
            return self.rungs.counts(start)
        if not self.budgets.fit(self.rungs.height):
            raise self._unreachable(targets)
        return self.rungs.counts(self._chosen(start, scope))

    def _chosen(self, start: Chosen, scope: str) -> Chosen:
        if scope == "global":
            return solve(self.budgets, start)
        return walked(self.rungs, self._keys(start, scope), start, lambda chosen: bool(self.budgets.fit(chosen)))

    def _keys(self, start: Chosen, scope: str) -> Slopes:
        """Return the order of the descents: the share that is removed of the axis, or of its class."""
        if scope == "isomorphic":
            return keys(self.rungs, self.bundles, classes(self.graph, self.bundles), start)
        return np.concatenate([np.array(bundle.price, dtype=np.float64) for bundle in self.bundles])

    def _unreachable(self, targets: Sequence[Target]) -> TargetError:
        counts, lines = self.rungs.counts(self.rungs.height), []
        for target in targets:
            kind = target.kind
            if kind in self.limits.costs:
                least, total = value_at(self.costs[kind], counts), _total(self.graph, kind)
                if least > target.limit(total):
                    reachable = smallest(kind, least, total)
                    lines.append(
                        f"target {target} cannot be reached: the smallest possible is {numeral(least)} ({reachable})"
                    )
        hint = "lower select.floor, protect and fix less, or see print(graph) for what is frozen and why"
        return TargetError("\n".join([*lines, *holding_out(self.graph), hint]))


def _total(graph: Graph, kind: str) -> Number:
    total = graph.totals[kind]
    assert total is not None, kind  # checked in planning
    return total


def _cost(graph: Graph, kind: str) -> CostFunction:
    cost = graph.cost_of(kind)
    assert cost is not None, kind
    return cost


__all__ = ["SCOPES", "Allocation", "Limits"]
