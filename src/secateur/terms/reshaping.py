"""Reshapes: products of dimensions, factored anew."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.terms.marks import reason
from secateur.terms.term import ONE, Axis, Reason, Term, find, product
from secateur.terms.unification import factor


def reshape(dims: Sequence[Term], shape: Sequence[int], why: Reason = "reshape") -> list[Term]:
    """Return the terms of a row-major tensor after a reshape to `shape`.

    >>> [dim.n for dim in reshape([Axis(2), Axis(6)], [4, 3])]
    [4, 3]
    """
    if 0 in shape:
        return [Axis(n, "empty tensor") if n != 1 else ONE for n in shape]
    out: list[Term] = []
    olds, news = [d for d in map(find, dims) if d.n != 1], list(shape)
    i = j = 0
    while j < len(news):
        old, new = [], [news[j]]
        have, want = 1, news[j]
        j += 1
        while have != want:
            if have < want:
                old.append(olds[i])
                have *= olds[i].n
                i += 1
            else:
                new.append(news[j])
                want *= news[j]
                j += 1
        whole = product(old)
        parts = factor(whole, new, why)
        out += parts if parts is not None else [Axis(n, reason(why)) if n != 1 else ONE for n in new]
    return out
