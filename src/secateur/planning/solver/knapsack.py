"""The choice of rungs that loses the least score in all budgets: a knapsack whose costs are products of choices.

The saving of a descent depends on the rungs of the other bundles, so there is no fixed order of descents. The search
has four moves, all deterministic (ties go to the lower index):

1. *Step*: solve the linear problem within reach, with the saving of every descent at the current rungs (the slopes of
   the costs). A descent is taken if its loss is less than its saving, with each budget weighted by the least multiplier
   that meets it. The budgets tighten over several steps, so that early choices are reconsidered as the costs change.
2. *Repair*: where the slopes overestimated the savings, descend further until the budgets are met. Nothing climbs.
3. *Give back*: climb where this regains the most loss for its cost, as long as everything fits.
4. *Exchange* (`exchange.py`): move pairs of bundles, by exact costs.

If exchanges are cheap enough to be tried, all moves are repeated a few times with perturbed losses, and the best result
is kept.
"""

from __future__ import annotations

import numpy as np

from secateur.cost.size_polynomials import Slopes
from secateur.planning.solver.budgets import Budgets, given_back, less
from secateur.planning.solver.descent import Steps
from secateur.planning.solver.exchange import exchanged, within_reach
from secateur.planning.solver.rungs import Chosen

ROUNDS = 16  # steps over which the budgets tighten
REACH = 4  # a step moves by at most 1 / REACH of a ladder
STARTS, NOISE = 4, 0.5  # further tries, and the standard deviation of their log-normal noise


def solve(budgets: Budgets, start: Chosen) -> Chosen:
    """Return the best choice found, nowhere above the start. The lowest rungs must fit."""
    rungs = budgets.rungs
    best = exchanged(budgets, _descended(budgets, start, rungs.loss), start)
    if within_reach(budgets, start):
        chance = np.random.default_rng(0)
        for _ in range(min(STARTS, int((rungs.height > start).sum()) - 1)):
            noise = chance.lognormal(0, NOISE, len(start))[rungs.owner]
            other = exchanged(budgets, _descended(budgets, start, rungs.loss * noise), start)
            best = other if less(rungs, other, best) else best
    return best


def _descended(budgets: Budgets, start: Chosen, loss: Slopes) -> Chosen:
    """Return a choice found by tightening the budgets with these losses, then refined with the true losses."""
    rungs = budgets.rungs
    chosen, excess = start, np.maximum(budgets.excess(start), 0.0)
    reach = np.maximum(rungs.height // REACH, 1)
    steps = Steps(budgets, start, loss)
    for left in range(ROUNDS - 1, -1, -1):
        chosen = steps.step(chosen, excess * left / ROUNDS, reach)
    steps.loss = rungs.loss
    chosen = given_back(budgets, steps.mended(chosen), start)
    while reach.any():
        other = given_back(budgets, steps.mended(steps.step(chosen, np.zeros(len(budgets)), reach)), start)
        if less(rungs, other, chosen):
            chosen = other
        else:
            reach = reach // 2
    return chosen


__all__ = ["solve"]
