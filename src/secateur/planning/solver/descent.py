"""Steps along the slopes of the costs: a linear problem within reach is solved, then set up again from the result.

A descent is taken if its loss is less than its saving, with each budget weighted by the least multiplier that meets it.
"""

from __future__ import annotations

import numpy as np

from secateur.cost.size_polynomials import Slopes
from secateur.planning.solver.budgets import Budgets
from secateur.planning.solver.rungs import Chosen

CYCLES = 6  # cycles that fit the multipliers of several budgets to each other


class Steps:
    """Steps from one choice to the next; the multipliers are kept between steps."""

    def __init__(self, budgets: Budgets, start: Chosen, loss: Slopes):
        self.budgets, self.rungs, self.start, self.loss = budgets, budgets.rungs, start, loss
        self._multipliers = np.zeros(len(budgets))
        self._all = np.arange(len(loss))

    def step(self, chosen: Chosen, goal: Slopes, reach: Chosen) -> Chosen:
        """Return the best choice within reach whose excess, estimated by slopes, is at most `goal`."""
        low, high = np.maximum(chosen - reach, self.start), np.minimum(chosen + reach, self.rungs.height)
        return self._moved(chosen, goal, low, high)

    def mended(self, chosen: Chosen) -> Chosen:
        """Return a choice below this one that fits. Costs curve upwards, so slopes may overestimate a saving."""
        while not self.budgets.fit(chosen):
            lower = self._moved(chosen, np.zeros(len(self.budgets)), chosen, self.rungs.height)
            assert (lower > chosen).any(), "the lowest rungs fit, so something can fall"
            chosen = lower
        return chosen

    def _moved(self, chosen: Chosen, goal: Slopes, low: Chosen, high: Chosen) -> Chosen:
        """Return rungs from low to high: the descents in between are taken if their saving is worth their loss."""
        first, owner, savings = self.rungs.first, self.rungs.owner, self.budgets.savings(chosen)
        near = np.flatnonzero((self._all >= (first + low)[owner]) & (self._all < (first + high)[owner]))
        done = near[near < (first + chosen)[owner[near]]]
        wanted = self.budgets.excess(chosen) + savings[:, done].sum(1) - goal
        taken = near[self._worth(self.loss[near], savings[:, near], wanted)]
        return low + np.bincount(owner[taken], minlength=len(chosen))

    def _worth(self, loss: Slopes, savings: Slopes, wanted: Slopes) -> Chosen:
        """Return the descents worth their loss, at the least multipliers that save `wanted` of each budget."""
        taken = np.zeros(0, dtype=np.intp)
        for _ in range(CYCLES if len(wanted) > 1 else 1):
            before = self._multipliers.copy()
            for k in range(len(wanted)):
                net = loss - self._multipliers @ savings + self._multipliers[k] * savings[k]
                taken, self._multipliers[k] = _cheapest(net, savings[k], float(wanted[k]))
            if (np.abs(self._multipliers - before) <= 1e-3 * before).all():
                break
        return taken


def _cheapest(loss: Slopes, saving: Slopes, wanted: float) -> tuple[Chosen, float]:
    """Return the free descents plus the cheapest that save `wanted`, and the loss per saving of the most expensive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(saving > 0, loss / saving, np.where(loss <= 0, 0.0, np.inf))
    order = np.argsort(ratio, kind="stable")
    order = order[: int(np.isfinite(ratio).sum())]
    count = int(np.searchsorted(ratio[order], 0.0, side="right"))
    if wanted > 0:
        enough = int(np.searchsorted(np.cumsum(saving[order]), wanted * (1 - 1e-12))) + 1
        count = min(max(count, enough), len(order))
    dearest = max(float(ratio[order[count - 1]]), 0.0) if count else 0.0
    return order[:count], dearest * (1 + 1e-9)  # so that rounding does not exclude the most expensive one next time


__all__ = ["Steps"]
