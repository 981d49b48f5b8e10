"""Exchanges: one bundle goes to another rung, a second one as high as then fits, by exact costs.

Every pair of bundles is looked at, so this is for networks with few of them.
"""

from __future__ import annotations

import numpy as np

from secateur.planning.solver.budgets import Budgets, given_back, less
from secateur.planning.solver.rungs import Chosen

MOST = 10_000  # pairs that are looked at in a round


def within_reach(budgets: Budgets, start: Chosen) -> bool:
    """Whether there are few enough pairs to look at."""
    span = budgets.rungs.height - start
    jumps = 2 * np.log2(np.maximum(span, 1)) + 2
    return 0 < float(jumps[span > 0].sum()) * int((span > 0).sum()) <= MOST


def exchanged(budgets: Budgets, chosen: Chosen, start: Chosen) -> Chosen:
    """The best exchange, given back what fits, and again, until none loses less."""
    while within_reach(budgets, start):
        pairs = _fitted(budgets, *_pairs(chosen, start, budgets.rungs.height), start)
        if not len(pairs):
            break
        best = given_back(budgets, pairs[np.argmin(budgets.rungs.loss_of(pairs))], start)
        if not less(budgets.rungs, best, chosen):
            break
        chosen = best
    return chosen


def _pairs(chosen: Chosen, start: Chosen, height: Chosen) -> tuple[Chosen, Chosen]:
    """Choices with one bundle elsewhere, each once for every other bundle that can move, and which that is."""
    movable = np.flatnonzero(height > start)
    jumps = [(b, rung) for b in movable for rung in _rungs(int(chosen[b]), int(start[b]), int(height[b]))]
    bundles, rungs = np.array(jumps, dtype=np.intp).reshape(-1, 2).T
    made = np.tile(chosen, (len(jumps), 1))
    made[np.arange(len(jumps)), bundles] = rungs
    first, other = np.repeat(bundles, len(movable)), np.tile(movable, len(jumps))
    return np.repeat(made, len(movable), axis=0)[first != other], other[first != other]


def _rungs(here: int, top: int, bottom: int) -> list[int]:
    """Both ends, and what is 1, 2, 4, ... rungs away."""
    far = [2**i for i in range((bottom - top).bit_length())]
    found = {top, bottom, *(here + d for d in far), *(here - d for d in far)} - {here}
    return sorted(rung for rung in found if top <= rung <= bottom)


def _fitted(budgets: Budgets, pairs: Chosen, other: Chosen, start: Chosen) -> Chosen:
    """Of choices that can be made to fit by lowering the other bundle, those with it as high as fits."""
    height, rows = budgets.rungs.height, np.arange(len(pairs))
    pairs[rows, other] = height[other]
    can = budgets.fit(pairs)
    pairs, other, rows = pairs[can], other[can], rows[: int(can.sum())]
    low, high = start[other], height[other]
    while (low < high).any():
        middle = (low + high) // 2
        pairs[rows, other] = middle
        fit = budgets.fit(pairs)
        low, high = np.where(fit, low, middle + 1), np.where(fit, middle, high)
    pairs[rows, other] = high
    return pairs


__all__ = ["exchanged", "within_reach"]
