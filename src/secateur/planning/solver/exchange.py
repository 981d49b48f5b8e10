"""Exchanges: one bundle moves to another rung, and a second one as high as then fits, by exact costs.

Every pair of bundles is tried, so this is for networks with few bundles.
"""

from __future__ import annotations

import numpy as np

from secateur.planning.solver.budgets import Budgets, given_back, less
from secateur.planning.solver.rungs import Chosen

MOST = 10_000  # pairs that are tried in a round


def within_reach(budgets: Budgets, start: Chosen) -> bool:
    """Return whether there are few enough pairs to try."""
    span = budgets.rungs.height - start
    jumps = 2 * np.log2(np.maximum(span, 1)) + 2
    return 0 < float(jumps[span > 0].sum()) * int((span > 0).sum()) <= MOST


def exchanged(budgets: Budgets, chosen: Chosen, start: Chosen) -> Chosen:
    """Return the choice after the best exchanges, each followed by climbing, until none reduces the loss."""
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
    """Return choices with one bundle moved, once for every other movable bundle, and the index of that other bundle."""
    movable = np.flatnonzero(height > start)
    jumps = [(b, rung) for b in movable for rung in _rungs(int(chosen[b]), int(start[b]), int(height[b]))]
    bundles, rungs = np.array(jumps, dtype=np.intp).reshape(-1, 2).T
    made = np.tile(chosen, (len(jumps), 1))
    made[np.arange(len(jumps)), bundles] = rungs
    first, other = np.repeat(bundles, len(movable)), np.tile(movable, len(jumps))
    return np.repeat(made, len(movable), axis=0)[first != other], other[first != other]


def _rungs(here: int, top: int, bottom: int) -> list[int]:
    """Return both ends and the rungs 1, 2, 4, ... away."""
    far = [2**i for i in range((bottom - top).bit_length())]
    found = {top, bottom, *(here + d for d in far), *(here - d for d in far)} - {here}
    return sorted(rung for rung in found if top <= rung <= bottom)


def _fitted(budgets: Budgets, pairs: Chosen, other: Chosen, start: Chosen) -> Chosen:
    """Return the choices that fit after lowering the other bundle, with that bundle as high as possible."""
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
