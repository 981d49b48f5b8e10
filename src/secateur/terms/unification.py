"""Unification: makes two terms equal, and splits terms into parts or factors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from secateur.terms.marks import (
    collapse,
    freeze,
    keep_at_least,
    keep_equal,
    keep_multiple,
    mark_inexact,
    mark_kind,
    reason,
)
from secateur.terms.refining import refine
from secateur.terms.sight import loose
from secateur.terms.term import (
    ONE,
    Axis,
    Case,
    Cat,
    PerUnit,
    Product,
    Reason,
    Term,
    axes,
    cat,
    find,
    in_case,
    leaves,
    product,
    same,
)

COPIES = 64  # the most rows that are written out one by one


def bind(axis: Axis, term: Term) -> None:
    """Replace an axis by a term everywhere. The marks of the axis pass to the term."""
    if isinstance(term, Axis) and term is axis:
        return
    if axis.frozen is not None:
        freeze(term, axis.frozen)
    if axis.inexact is not None:
        mark_inexact(term, axis.inexact, unsafe=axis.unsafe)
    if axis.least > 1:
        keep_at_least(term, axis.least)
    if axis.multiple > 1:
        keep_multiple(term, axis.multiple)
    if axis.kind is not None:
        mark_kind(term, axis.kind)
    if axis.within:
        keep_equal(term, axis.within)
    axis.ref = term


def unify(x: Term, y: Term, why: Reason = "unified") -> None:
    """Make two terms of equal size the same, unit by unit; freeze both where they have no common refinement.

    >>> c, a, b = Axis(5), Axis(2), Axis(3)
    >>> unify(c, cat([a, b])); same(c, cat([a, b]))
    True
    """
    x, y = find(x), find(y)
    if x is y or x.n == y.n == 1:
        return _share_reason(x, y)
    if isinstance(x, Case) or isinstance(y, Case):
        return unify(merged(x), merged(y), why)
    assert x.n == y.n, (x, y)
    if isinstance(x, Axis) and isinstance(y, Axis):
        _unify_axes(x, y)
    elif isinstance(x, Axis) or isinstance(y, Axis):
        axis, term = (x, y) if isinstance(x, Axis) else (y, x)
        assert isinstance(axis, Axis)
        collapse(axis)
        settle([term])  # the axis has no outer units, so only outer units inside the term count
        bind(axis, term)
    elif isinstance(x, Product) and isinstance(y, Product):
        _unify_products(x, y, why)
    else:
        _unify_cats(x, y, why)


def _share_reason(x: Term, y: Term) -> None:
    """Let one axis of size one take over the frozen reason of the other; size one broadcasts, so nothing is bound."""
    for one, other in ((x, y), (y, x)):
        if isinstance(one, Axis) and isinstance(other, Axis) and one.frozen is None and other is not ONE:
            one.frozen = other.frozen


def _unify_axes(x: Axis, y: Axis) -> None:
    x_outer = x.outer if isinstance(x, PerUnit) else None
    y_outer = y.outer if isinstance(y, PerUnit) else None
    if x_outer is None or y_outer is None or not same(x_outer, y_outer):
        collapse(x)
        collapse(y)
    bind(x, y)


def _unify_products(x: Product, y: Product, why: Reason) -> None:
    sizes = refine([part.n for part in x.parts], [part.n for part in y.parts])
    xs = factor(x, sizes, why) if sizes else None
    ys = factor(y, sizes, why) if sizes else None
    _unify_parts(x, y, xs, ys, why)


def _unify_cats(x: Term, y: Term, why: Reason) -> None:
    offsets = sorted({*_bounds(x), *_bounds(y)})
    xs = cut(x, offsets, why)
    ys = cut(y, offsets, why)
    _unify_parts(x, y, xs, ys, why)


def _unify_parts(x: Term, y: Term, xs: list[Term] | None, ys: list[Term] | None, why: Reason) -> None:
    """Unify two terms part by part; where either has no such parts, freeze both."""
    if xs is None or ys is None:
        freeze(x, why)
        freeze(y, why)
        return
    for a, b in zip(xs, ys, strict=True):
        unify(a, b, why)


def _bounds(term: Term) -> list[int]:
    return list(itertools.accumulate(part.n for part in term.parts)) if isinstance(term, Cat) else [term.n]


def cut(term: Term, offsets: Sequence[int], why: Reason = "cut") -> list[Term] | None:
    """Split a term into consecutive pieces that end at these offsets (ascending, the last is its size).

    Returns None, with the term frozen, where a boundary falls inside a unit of a product.

    >>> [piece.n for piece in cut(Axis(7), [3, 7])]
    [3, 4]
    """
    term = merged(term)
    assert offsets[-1] == term.n, (term, offsets)
    if len(offsets) == 1:
        return [term]
    if any(a == b for a, b in itertools.pairwise([0, *offsets])):
        return _cut_with_nothing(term, offsets, why)
    if isinstance(term, Axis):
        return _cut_axis(term, offsets)
    return _cut_cat(term, offsets, why) if isinstance(term, Cat) else _cut_product(term, offsets, why)


def _cut_with_nothing(term: Term, offsets: Sequence[int], why: Reason) -> list[Term] | None:
    """Cut as `cut` does, where some of the pieces are empty."""
    ends = sorted({*offsets} - {0})
    pieces = cut(term, ends, why) if ends else []
    if pieces is None:
        return None
    rest = iter(pieces)
    return [next(rest) if a != b else Axis(0, "nothing") for a, b in itertools.pairwise([0, *offsets])]


def _cut_axis(axis: Axis, offsets: Sequence[int]) -> list[Term]:
    widths = [b - a for a, b in itertools.pairwise([0, *offsets])]
    outer = axis.outer if isinstance(axis, PerUnit) else None
    parts = [Axis(n) if outer is None else PerUnit(n, outer) for n in widths]
    bind(axis, Cat(tuple(parts)))
    return list(parts)


def _cut_cat(term: Cat, offsets: Sequence[int], why: Reason) -> list[Term] | None:
    ends, pieces, current, start = set(offsets), [], [], 0
    for part in term.parts:
        inner = [o - start for o in offsets if start < o < start + part.n]
        split = cut(part, [*inner, part.n], why)
        if split is None:
            freeze(term, why)
            return None
        for piece in split:
            current.append(piece)
            start += piece.n
            if start in ends:
                pieces.append(cat(current))
                current = []
    return pieces


def _cut_product(term: Product, offsets: Sequence[int], why: Reason) -> list[Term] | None:
    head, rest = term.parts[0], product(term.parts[1:])
    if any(o % rest.n for o in offsets):
        pieces = None
        if _can_lose(term):
            taken = isinstance(head, PerUnit) and head.outer is not None and same(head.outer, rest)
            pieces = (_cut_turns if taken else _cut_rows)(head, rest, offsets, why)  # type: ignore[arg-type]
        if pieces is None:
            freeze(term, why)
        return pieces
    collapse(rest)  # its outer units end up in different pieces
    heads = cut(head, [o // rest.n for o in offsets], why)
    return None if heads is None else [product([h, rest]) for h in heads]


def _can_lose(*terms: Term) -> bool:
    """Return whether any axis could lose a unit."""
    return any(axis.frozen is None and axis.n > 1 for term in terms for axis in axes(term))


def _cut_rows(head: Term, rest: Term, offsets: Sequence[int], why: Reason) -> list[Term] | None:
    """Cut Product(head, rest) inside its rows: where all outer units stay, it is Cat(rest, ..., rest)."""
    if head.n > COPIES:
        return None
    freeze(head, why)
    if isinstance(head, Axis):
        _tell_apart(rest, head)
    collapse(rest)
    rows = tuple(in_case(rest, head, k) for k in range(head.n))
    pieces = _cut_cat(Cat(rows), offsets, why)
    return pieces if pieces is not None and _can_lose(*pieces) else None


def _tell_apart(term: Term, selector: Axis) -> None:
    """Give each unit of the selector an axis of its own for every axis that it chooses units of."""
    for axis in list(axes(term)):
        if isinstance(axis, PerUnit) and axis.frozen is None and axis.outer is not None and same(axis.outer, selector):
            case = Case(selector, [Axis(axis.n) for _ in range(selector.n)])
            keep_equal(case, [case])
            bind(axis, case)


def _cut_turns(head: PerUnit, outer: Axis, offsets: Sequence[int], why: Reason) -> list[Term] | None:
    """Cut Product(head, outer) anywhere, if each outer unit chooses its own units of `head`.

    Position (k, i) then holds the k-th unit that outer unit i keeps. Any `outer.n` neighbours, one of each outer unit,
    can be removed together, because every position behind them still belongs to the same outer unit. A piece consists
    of such runs; fewer than `outer.n` positions at its end stay.
    """
    turns, widths = outer.n, [b - a for a, b in itertools.pairwise([0, *offsets])]
    if turns > COPIES or max(widths) < 2 * turns or head.multiple > 1:
        return None
    freeze(outer, why)
    columns: list[list[Term]] = [[] for _ in range(turns)]
    pieces, at = [], 0
    for width in widths:
        run, single = Axis(width // turns), [Axis(1, reason(why)) for _ in range(width % turns)]
        for column in columns:
            column.append(run)
        for i, unit in enumerate(single):
            columns[(at + i) % turns].append(unit)  # whole runs do not change whose turn it is
        pieces.append(cat([product([run, outer]), *single]))
        at += width
    bind(head, Case(outer, [cat(column) for column in columns]))
    return pieces


def factor(term: Term, sizes: Sequence[int], why: Reason = "factored") -> list[Term] | None:
    """Write a term as a product of terms of these sizes, outermost first.

    The last factor of a free axis is chosen separately for each unit of the factor before it (`PerUnit`), until another
    constraint rules that out. Returns None, with the term frozen, where the sizes do not fit its structure.

    >>> [part.n for part in factor(Axis(12), [3, 4])]
    [3, 4]
    """
    term = merged(term)
    assert term.n == math.prod(sizes), (term, sizes)
    if len(sizes) == 1:
        return [term]
    if 1 in sizes:
        return _factor_with_ones(term, sizes, why)
    if isinstance(term, Axis):
        return _factor_axis(term, sizes)
    return _factor_product(term, sizes, why) if isinstance(term, Product) else _factor_cat(term, sizes, why)


def _factor_with_ones(term: Term, sizes: Sequence[int], why: Reason) -> list[Term] | None:
    real = [size for size in sizes if size != 1]
    parts = factor(term, real, why) if real else []
    if parts is None:
        return None
    rest = iter(parts)
    return [ONE if size == 1 else next(rest) for size in sizes]


def _factor_axis(axis: Axis, sizes: Sequence[int]) -> list[Term]:
    outer = axis.outer if isinstance(axis, PerUnit) else None
    if outer is not None:
        parts: list[Axis] = [PerUnit(n, outer) for n in sizes]
    else:
        parts = [Axis(n) for n in sizes[:-1]]
        parts.append(PerUnit(sizes[-1], parts[-1], tuple(parts)))
    bind(axis, Product(tuple(parts)))
    return list(parts)


def _factor_product(term: Product, sizes: Sequence[int], why: Reason) -> list[Term] | None:
    fine = refine([part.n for part in term.parts], sizes)
    if fine is None:
        return _factor_rows(term, sizes, why)
    flat = _split_factors(term, fine, why)
    groups = _group(flat, sizes) if flat else None
    if groups is None:
        freeze(term, why)
    return groups


def _split_factors(term: Product, fine: Sequence[int], why: Reason) -> list[Term] | None:
    flat: list[Term] = []
    rest = iter(fine)
    for part in term.parts:
        take, have = [], 1
        while have < part.n:
            take.append(next(rest))
            have *= take[-1]
        split = factor(part, take, why)
        if split is None:
            return None
        flat += split
    return flat


def _group(flat: Sequence[Term], sizes: Sequence[int]) -> list[Term] | None:
    out, rest = [], iter(flat)
    for size in sizes:
        group, have = [], 1
        while have < size:
            group.append(next(rest))
            have *= group[-1].n
        if have != size:
            return None
        out.append(product(group))
    return out


def _factor_cat(term: Cat, sizes: Sequence[int], why: Reason) -> list[Term] | None:
    """Use Product(Cat(a, b), c) = Cat(Product(a, c), Product(b, c)) where each part holds whole rows, all equal."""
    row = math.prod(sizes[1:])
    if any(part.n % row for part in term.parts):
        return _factor_rows(term, sizes, why)
    heads: list[Term] = []
    rows: list[Term] = []
    for part in term.parts:
        split = factor(part, [part.n // row, row], why)
        if split is None:
            freeze(term, why)
            return None
        heads.append(split[0])
        rows.append(split[1])
    for other in rows:
        collapse(other)  # each part has its own outer units
        unify(rows[0], other, why)
    inner = factor(rows[0], sizes[1:], why)
    if inner is None:
        freeze(term, why)
        return None
    return [cat(heads), *inner]


def _factor_rows(term: Cat | Product, sizes: Sequence[int], why: Reason) -> list[Term] | None:
    """Use Cat(c, ..., c) = Product(n, c) where all n rows stay: cut the term into rows, and let all lose the same."""
    row, inner = math.prod(sizes[1:]), None
    if sizes[0] <= COPIES and _can_lose(term) and (rows := cut(term, range(row, term.n + 1, row), why)):
        for other in rows[1:]:
            unify(rows[0], other, why)
        inner = factor(rows[0], sizes[1:], why) if _can_lose(rows[0]) else None
    if inner is None:
        freeze(term, why)
        return None
    return [Axis(sizes[0], reason(why)), *inner]


def grain(term: Term, row: int) -> int:
    """Return the largest divisor of `row` that the size of each part of a concatenation is a multiple of.

    >>> grain(cat([Axis(64), Axis(32)]), 12), grain(cat([Axis(24), Axis(12)]), 12)
    (4, 12)
    """
    term = merged(term)
    return math.gcd(row, *(part.n for part in term.parts)) if isinstance(term, Cat) else row


def settle(dims: Sequence[Term]) -> None:
    """Collapse each `PerUnit` whose outer units do not occur in these dimensions, and merge each such `Case`."""
    cases = [leaf for dim in dims for leaf in leaves(dim) if isinstance(leaf, Case)]
    if cases:
        seen = {axis for dim in dims for axis in axes(dim)}
        for case in cases:
            if not seen.issuperset(axes(case.selector)):
                merge(case)
    for axis in loose(dims):
        axis.outer = None


def merge(case: Case) -> None:
    """Unify all cases into one axis."""
    if case.ref is None:
        for other in case.cases[1:]:
            unify(case.cases[0], other)
        case.ref = find(case.cases[0])


def merged(term: Term) -> Term:
    """Return a term with all of its cases merged."""
    for leaf in list(leaves(term)):
        if isinstance(leaf, Case):
            merge(leaf)
    return find(term)
