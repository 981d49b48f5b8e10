"""Budgets on the rungs of a set of bundles, and the climb to higher rungs once all budgets are met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from secateur.cost.kinds import CostFunction
from secateur.cost.size_polynomials import Slopes
from secateur.planning.solver.rungs import Chosen, Rungs


@dataclass(frozen=True)
class Budget:
    """At most `limit` of a cost."""

    cost: CostFunction
    limit: float


class Budgets:
    """Several budgets on the rungs of one set of bundles; costs are expressed as shares of their limits."""

    def __init__(self, rungs: Rungs, budgets: Sequence[Budget]):
        self.rungs, self.budgets = rungs, budgets
        self._limits = np.array([max(budget.limit, 1.0) for budget in budgets])

    def __len__(self) -> int:
        return len(self.budgets)

    def excess(self, chosen: Chosen) -> Slopes:
        """Return by which share each budget is exceeded: (..., bundles) -> (..., budgets)."""
        counts = self.rungs.counts(chosen)
        return np.stack([b.cost.many(counts) - b.limit for b in self.budgets], axis=-1) / self._limits

    def fit(self, chosen: Chosen) -> npt.NDArray[np.bool_]:
        """Return whether all budgets are met: (..., bundles) -> (...)."""
        return np.asarray((self.excess(chosen) <= 0).all(-1))

    def savings(self, chosen: Chosen) -> Slopes:
        """Return what each descent saves of each budget, to first order: (budgets, descents)."""
        counts = self.rungs.counts(chosen)
        return np.stack([self.rungs.savings(b.cost.slopes(counts)) for b in self.budgets]) / self._limits[:, None]


def less(rungs: Rungs, one: Chosen, other: Chosen) -> bool:
    """Return whether one choice loses less than another, beyond rounding."""
    return bool(rungs.loss_of(one) < rungs.loss_of(other) * (1 - 1e-9))


def given_back(budgets: Budgets, chosen: Chosen, start: Chosen) -> Chosen:
    """Return the choice after climbing while the budgets allow, where a climb regains the most for its cost.

    No bundle climbs above the start.
    """
    rungs, chosen = budgets.rungs, chosen.copy()
    free = np.flatnonzero(chosen > start)
    while len(free):
        last = rungs.first[free] + chosen[free] - 1
        slack, cost = -budgets.excess(chosen)[:, None], budgets.savings(chosen)[:, last]
        fits = (cost <= slack + 1e-9 * cost).all(0)  # costs curve upwards: a slope never overstates what a climb costs
        free, last, cost = free[fits], last[fits], cost[:, fits]
        if len(free):
            share = (cost / np.maximum(slack, 1e-300)).max(0)
            b = free[np.argmax(rungs.loss[last] / np.maximum(share, 1e-300))]
            chosen[b] -= 1
            if not budgets.fit(chosen):
                chosen[b] += 1
                free = free[free != b]
            free = free[chosen[free] > start[free]]
    return chosen


__all__ = ["Budget", "Budgets", "given_back", "less"]
