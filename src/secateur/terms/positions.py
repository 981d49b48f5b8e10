"""Evaluation of terms: their sizes, and the positions that stay when units of axes are removed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from secateur.terms.sight import places, sightings, sights
from secateur.terms.term import (
    Axis,
    Case,
    Cat,
    Kept,
    PerUnit,
    Product,
    Term,
    axes,
    factors,
    find,
    in_case,
    leaves,
    same,
)


def size(term: Term, counts: Mapping[Axis, int]) -> int:
    """Return the size of a term when its axes have these counts; axes without a count keep all their units."""
    term = find(term)
    if isinstance(term, Case):
        return size(term.cases[0], counts)
    if isinstance(term, Axis):
        return counts.get(term, term.n)
    if isinstance(term, Cat):
        return sum(size(part, counts) for part in term.parts)
    return math.prod(size(part, counts) for part in term.parts)


def kept_size(term: Term, keep: Kept) -> int:
    """Return the size of a term when its axes keep these units (see `positions`)."""
    kept = ((axis, keep.get(axis)) for axis in axes(term))
    counts = {axis: len(k[0] if _per_outer(k) else k) for axis, k in kept if k}  # type: ignore[arg-type]
    return size(term, counts)


def positions(term: Term, keep: Kept) -> list[int]:
    """Return the flat positions of a term that stay, in ascending order, when its axes keep these units.

    A `PerUnit` with an outer term keeps one list of units per outer unit; every other axis keeps one list. Position k
    of a pruned `PerUnit` holds the k-th unit that its outer unit keeps, whichever of the two indices comes first.

    >>> from secateur.terms import product
    >>> a, b = Axis(2), Axis(3)
    >>> positions(product([a, b]), {b: [0, 2]})
    [0, 2, 3, 5]
    """
    term = find(term)
    assert not isinstance(term, Case), (term, "a Case without its selector")
    if isinstance(term, Axis):
        kept = keep.get(term)
        assert kept is None or not _per_outer(kept), (term, "without its outer units")
        return list(range(term.n)) if kept is None else list(kept)  # type: ignore[arg-type]
    if isinstance(term, Cat):
        starts = itertools.accumulate((part.n for part in term.parts), initial=0)
        return [start + i for start, part in zip(starts, term.parts, strict=False) for i in positions(part, keep)]
    waiting = [_waiting(part, keep) for part in term.parts]
    columns = _dependent_columns(term, keep, waiting) if any(waiting) else _columns(term, keep)
    return _flat(columns, [part.n for part in term.parts])


def _per_outer(kept: Sequence[int] | Sequence[Sequence[int]]) -> bool:
    return bool(kept) and isinstance(kept[0], Sequence)


def _flat(columns: Sequence[Sequence[int]], sizes: Sequence[int]) -> list[int]:
    """Return row-major indices from columns of digits (indices per factor), outermost first."""
    flat = list(columns[0])
    for column, n in zip(columns[1:], sizes[1:], strict=True):
        flat = [index * n + digit for index, digit in zip(flat, column, strict=True)]
    return flat


def _columns(term: Product, keep: Kept) -> list[list[int]]:
    """Return the index per factor of every kept element, for a product whose factors do not depend on each other."""
    rows = itertools.product(*(positions(part, keep) for part in term.parts))
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in term.parts]


def _waiting(term: Term, keep: Kept) -> list[PerUnit | Case]:
    """Return the axes of a term whose units depend on a unit that the term lacks.

    They are each `PerUnit` that keeps a list per outer unit, and each `Case`.
    """
    chosen = (a for a, count in sights(term) if not count and _per_outer(keep.get(a, ())))
    return list(dict.fromkeys((*chosen, *(leaf for leaf in leaves(term) if isinstance(leaf, Case)))))


def _dependent_columns(term: Product, keep: Kept, waiting: Sequence[Sequence[PerUnit | Case]]) -> list[list[int]]:
    """Return `_columns` for factors whose units depend on the units of other factors, which are computed first."""
    sizes = [kept_size(part, keep) for part in term.parts]
    ranks = list(zip(*itertools.product(*map(range, sizes)), strict=True)) or [()] * len(sizes)
    done: dict[int, list[int]] = {}
    while len(done) < len(sizes):
        before = len(done)
        for i, part in enumerate(term.parts):
            outers = [_outer_column(term.parts, done, axis) for axis in waiting[i]]
            if i not in done and None not in outers:
                done[i] = _column(part, keep, waiting[i], outers, ranks[i])  # type: ignore[arg-type]
        assert len(done) > before, (term, "a PerUnit without its outer units")
    return [done[i] for i in range(len(sizes))]


def _column(
    part: Term, keep: Kept, waiting: Sequence[PerUnit | Case], outers: Sequence[Sequence[int]], ranks: Sequence[int]
) -> list[int]:
    """Return the indices of one factor; `outers` has, for each axis in `waiting`, its outer unit in every row."""
    tables: dict[tuple[int, ...], list[int]] = {}
    column = []
    for row, rank in enumerate(ranks):
        units = tuple(outer[row] for outer in outers)
        if units not in tables:
            told, chosen = part, {}
            for axis, unit in zip(waiting, units, strict=True):
                if isinstance(axis, Case):
                    told = in_case(told, find(axis.selector), unit)
                else:
                    chosen[axis] = keep[axis][unit]
            tables[units] = positions(told, {**{a: keep[a] for a in axes(part) if a in keep}, **chosen})
        column.append(tables[units][rank])
    return column


def _outer_column(parts: Sequence[Term], done: Mapping[int, Sequence[int]], axis: PerUnit | Case) -> list[int] | None:
    """Return the outer unit of an axis in every row, or None while the indices that determine it are not known."""
    wanted = find(axis.selector) if isinstance(axis, Case) else axis.outer
    assert wanted is not None
    span = next(places(parts, wanted), None)
    if span is not None:
        return _flat([done[i] for i in span], [parts[i].n for i in span]) if all(i in done for i in span) else None
    i = next((i for i, part in enumerate(parts) if sightings([part], wanted)), None)
    return [_unit(parts[i], at, wanted) for at in done[i]] if i is not None and i in done else None


def _unit(term: Term, at: int, outer: Term) -> int:
    """Return the unit of `outer` that a position of a term belongs to."""
    term = find(term)
    if isinstance(term, Cat) and not same(term, outer):
        for part in term.parts:
            if at < part.n:
                return _unit(part, at, outer)
            at -= part.n
    parts, digits = factors(term), []
    for part in reversed(parts):
        at, digit = divmod(at, part.n)
        digits.insert(0, digit)
    span = next(places(parts, outer), None)
    if span is not None:
        return _flat([[digits[i]] for i in span], [parts[i].n for i in span])[0]
    i = next(i for i, part in enumerate(parts) if isinstance(part, Cat) and sightings([part], outer))
    return _unit(parts[i], digits[i], outer)


def alike(x: Term, y: Term) -> bool:
    """Return whether two terms of equal size keep the same positions in every plan, also if they are written otherwise.

    >>> rows, c = Axis(2, "stays"), Axis(3)
    >>> alike(Product((rows, c)), Cat((c, c)))
    True
    """
    if same(x, y) or all(axis.frozen is not None for axis in axes(x)):
        return same(x, y)
    return _units(find(x)) == _units(find(y))


def _units(term: Term) -> list[tuple[tuple[Term, int], ...]]:
    """Return the units that each position belongs to, without those that stay unless others are chosen for them."""
    told = any(isinstance(axis, PerUnit) and axis.outer is not None for axis in axes(term))
    if isinstance(term, Axis):
        return [((term, unit),) if term.frozen is None else () for unit in range(term.n)]
    if isinstance(term, Cat):
        return [units for part in term.parts for units in _units(part)]
    parts = [[((part, unit),) for unit in range(part.n)] if told else _units(part) for part in term.parts]
    return [tuple(itertools.chain.from_iterable(digits)) for digits in itertools.product(*parts)]
