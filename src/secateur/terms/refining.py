"""The common refinement of two factorisations of a number."""

from __future__ import annotations

import itertools
from collections.abc import Sequence


def refine(a: Sequence[int], b: Sequence[int]) -> list[int] | None:
    """Return the coarsest factorisation that refines two factorisations of one number, or None."""

    def stops(sizes: Sequence[int]) -> set[int]:
        return set(itertools.accumulate(reversed(sizes), lambda x, y: x * y))

    out, previous = [], 1
    for stop in sorted(stops(a) | stops(b)):
        if stop % previous:
            return None
        if stop > previous:
            out.append(stop // previous)
        previous = stop
    return out[::-1]
