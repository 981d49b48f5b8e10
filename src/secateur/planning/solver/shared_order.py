"""One common order of all descents, followed until the budgets are met, for scopes in which shares go down together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from secateur.planning.solver.rungs import Chosen, Rungs


def walked(rungs: Rungs, keys: np.ndarray, start: Chosen, fits: Callable[[Chosen], bool]) -> Chosen:
    """Return the choice after descents by rising key (ties by index) until everything fits, then climbs that still fit.

    The lowest rungs must fit.
    """
    ahead = np.arange(len(keys)) >= (rungs.first + start)[rungs.owner]
    order = np.argsort(keys, kind="stable")
    order = order[ahead[order]]

    def after(n: int) -> Chosen:
        chosen = start.copy()
        front = order[:n]
        np.maximum.at(chosen, rungs.owner[front], front - rungs.first[rungs.owner[front]] + 1)
        return chosen

    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(after(middle)) else (middle + 1, high)
    return _taken_back(rungs, order[:low], after(low), fits)


def _taken_back(rungs: Rungs, order: Chosen, chosen: Chosen, fits: Callable[[Chosen], bool]) -> Chosen:
    """Undo descents, the last first, while the result fits; a bundle whose climb does not fit is not tried again."""
    done: set[int] = set()
    for b in rungs.owner[order[::-1]].tolist():
        if b not in done:
            chosen[b] -= 1
            if not fits(chosen):
                chosen[b] += 1
                done.add(b)
    return chosen
