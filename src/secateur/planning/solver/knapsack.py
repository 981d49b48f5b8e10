"""Which rungs lose the least score while every budget is met: a knapsack whose costs are products of choices.

What a descent saves depends on where the others stand, so no order of the descents is right for good. Four moves, all
deterministic (ties fall to the lower index):

1. *Step*: with what every descent saves here (the slopes of the costs), solve the linear problem within reach: a
   descent is taken where it loses less than it saves, each budget weighed by a multiplier, the least that meets it. The
   budgets tighten over several steps, so that early choices are seen anew as the costs change.
2. *Mend*: what the slopes promised and the costs did not keep is descended further, nothing climbs.
3. *Give back*: climb where the loss undone is greatest for what it costs, as long as everything fits.
4. *Exchange* (`exchange.py`): pairs of bundles change places on their ladders, by exact costs.

Where exchanges are cheap enough to be tried, the same is done with disturbed losses a few times, and the best counts.
"""

from __future__ import annotations

import numpy as np

from secateur.cost.size_polynomials import Slopes
from secateur.planning.solver.budgets import Budgets, given_back, less
from secateur.planning.solver.descent import Steps
from secateur.planning.solver.exchange import exchanged, within_reach
from secateur.planning.solver.rungs import Chosen

ROUNDS = 16  # in which the budgets tighten
REACH = 4  # a step goes up or down by one part of so many of a ladder
STARTS, NOISE = 4, 0.5  # further tries, and the spread of the logarithm of what disturbs them


def solve(budgets: Budgets, start: Chosen) -> Chosen:
    """The best choice found, nowhere above the start. The lowest rungs must fit."""
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
    """The start with budgets tightened by these losses, and settled by the true ones."""
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
