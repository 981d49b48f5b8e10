"""Types for tensor dimensions: terms over axes, and their unification.

    term := Axis(n)               n units that live and die one by one
          | Each(n, outer)        an axis whose n units are chosen anew for every unit of `outer`; the counts are equal
          | Case(selector, axes)  for each unit of the axis `selector` another axis; the counts are equal
          | Cat(term, ...)        laid end to end
          | Product(term, ...)    row-major, outer first

An axis that turns out to have parts is *bound* to a term over fresh axes, everywhere at once; `find` reads through
bindings. Every binding removes one free axis, so unification ends. Where two terms have no common refinement both
are frozen with a reason: nothing here ever guesses, and nothing here knows what a tensor is.

Normal form (kept by `cat` and `product`): no Cat directly in a Cat, no Product directly in a Product, no empty part
of a Cat, no factor of size one, at least two parts; a Case behind its selector is written out as a Cat. The term of
size one is `ONE`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

Why: TypeAlias = "str | Callable[[], str]"  # a reason, or how to make one: finding a source line costs time

CHANNEL, HEAD, HEAD_DIM, EXPERT = KINDS = ("channel", "head", "head_dim", "expert")  # what the units of an axis are


class Axis:
    """`n` units. `frozen` and `inexact` hold the first reason, or None; `least` is the smallest allowed count.

    Counts that are not all of the units are multiples of `multiple`. `kind` says what the units are (heads, ...), where
    something told; it changes nothing here.
    """

    __slots__ = ("frozen", "inexact", "kind", "least", "multiple", "n", "ref", "serial", "unsafe")
    _serial = itertools.count()

    def __init__(self, n: int, frozen: str | None = None):
        self.n = n
        self.ref: Term | None = None
        self.frozen = frozen
        self.inexact: str | None = None
        self.unsafe = False  # inexact by more than a mean or a variance
        self.least = 1
        self.multiple = 1
        self.kind: str | None = None
        self.serial = next(Axis._serial)

    def __repr__(self) -> str:
        return f"a{self.serial}:{self.n}{'!' if self.frozen else ''}"


class Each(Axis):
    """The inner axis of a product with `outer`: every outer unit keeps its own choice, all of them equally many.

    `outer = None` (see `collapse`) makes it an ordinary axis: one choice for all.
    """

    __slots__ = ("beside", "outer")

    def __init__(self, n: int, outer: Term | None, beside: Sequence[Term] = ()):
        super().__init__(n)
        self.outer = outer
        self.beside = beside  # what it was factored out with

    def __repr__(self) -> str:
        return super().__repr__() + ("" if self.outer is None else "/each")


class Case(Axis):
    """Another axis for each unit of `selector`, as the q, k and v of a fused layer have; the counts are equal.

    A stand-in where the selector is a dimension of its own. What cannot tell the cases apart merges them (`settle`).
    """

    __slots__ = ("cases", "selector")

    def __init__(self, selector: Axis, cases: Sequence[Axis]):
        super().__init__(cases[0].n)
        self.selector = selector
        self.cases = cases

    def __repr__(self) -> str:
        return f"{self.selector!r}?{'|'.join(map(repr, self.cases))}"


class Cat:
    """Terms laid end to end."""

    __slots__ = ("n", "parts")

    def __init__(self, parts: tuple[Term, ...]):
        self.parts = parts
        self.n = sum(part.n for part in parts)

    def __repr__(self) -> str:
        return "(" + " + ".join(map(repr, self.parts)) + ")"


class Product:
    """Terms as the digits of one index, outermost first."""

    __slots__ = ("n", "parts")

    def __init__(self, parts: tuple[Term, ...]):
        self.parts = parts
        self.n = math.prod(part.n for part in parts)

    def __repr__(self) -> str:
        return "(" + " * ".join(map(repr, self.parts)) + ")"


Term: TypeAlias = Axis | Cat | Product
Kept: TypeAlias = "Mapping[Axis, Sequence[int] | Sequence[Sequence[int]]]"

ONE = Axis(1, "size one")


# --- building and reading -------------------------------------------------------------------------------------------


def _spliced(kind: type[Cat] | type[Product], terms: Iterable[Term]) -> Iterator[Term]:
    for term in terms:
        found = find(term)
        if isinstance(found, kind):
            yield from found.parts
        else:
            yield found


def cat(terms: Iterable[Term]) -> Term:
    """Terms laid end to end, in normal form.

    >>> cat([Axis(2), cat([Axis(3), Axis(4)])]).n
    9
    """
    parts = tuple(part for part in _spliced(Cat, terms) if part.n != 0)
    return parts[0] if len(parts) == 1 else Cat(parts)


def product(terms: Iterable[Term]) -> Term:
    """The row-major product of terms, in normal form.

    >>> product([Axis(2), ONE, Axis(3)]).n
    6
    """
    parts = tuple(part for part in _spliced(Product, terms) if part.n != 1)
    if not parts:
        return ONE
    if any(isinstance(part, Case) for part in parts):
        return _written_out(parts)
    return parts[0] if len(parts) == 1 else Product(parts)


def _written_out(parts: tuple[Term, ...]) -> Term:
    """Product(a, s, b, Case(s, (x, y))) = Product(a, Cat(Product(b, x), Product(b, y)))."""
    selectors = [find(part.selector) for part in parts if isinstance(part, Case)]
    at = next((i for i, part in enumerate(parts) if any(part is s for s in selectors)), None)
    if at is None or not any(isinstance(p, Case) and find(p.selector) is parts[at] for p in parts[at:]):
        return parts[0] if len(parts) == 1 else Product(parts)
    behind = (product(in_case(part, parts[at], k) for part in parts[at + 1 :]) for k in range(parts[at].n))
    return product([*parts[:at], cat(behind)])


def in_case(term: Term, selector: Term, k: int) -> Term:
    """A term for unit k of a selector."""
    term = find(term)
    if isinstance(term, Axis):
        return find(term.cases[k]) if isinstance(term, Case) and find(term.selector) is selector else term
    parts = (in_case(part, selector, k) for part in term.parts)
    return cat(parts) if isinstance(term, Cat) else product(parts)


def find(term: Term) -> Term:
    """What a term stands for now, bindings read through (and shortened on the way)."""
    if isinstance(term, Axis):
        return term if term.ref is None else _find_bound(term)
    if not _stale(term):
        return term
    return cat(term.parts) if isinstance(term, Cat) else product(term.parts)


def _find_bound(axis: Axis) -> Term:
    chain = [axis]
    while isinstance(ref := chain[-1].ref, Axis) and ref.ref is not None:
        chain.append(ref)
    end = find(ref) if ref is not None else chain[-1]
    for link in chain:
        link.ref = end
    return end


def _stale(term: Term) -> bool:
    if isinstance(term, Axis):
        return term.ref is not None
    return any(_stale(part) for part in term.parts)


def axes(term: Term) -> Iterator[Axis]:
    """The free axes of a term, left to right."""
    for leaf in _leaves(term):
        if isinstance(leaf, Case):
            for case in leaf.cases:
                yield from axes(case)
        else:
            yield leaf


def _leaves(term: Term) -> Iterator[Axis]:
    """The free axes of a term and its cases, left to right."""
    term = find(term)
    if isinstance(term, Axis):
        yield term
    else:
        for part in term.parts:
            yield from _leaves(part)


def same(x: Term, y: Term) -> bool:
    """Whether two terms are equal part by part (not merely of equal size)."""
    x, y = find(x), find(y)
    if x is y:
        return True
    if isinstance(x, Axis) or isinstance(y, Axis) or type(x) is not type(y) or len(x.parts) != len(y.parts):
        return False
    return all(map(same, x.parts, y.parts))


def factors(term: Term) -> tuple[Term, ...]:
    """The factors of a product, or the term alone."""
    term = find(term)
    return term.parts if isinstance(term, Product) else (term,)


# --- marks ----------------------------------------------------------------------------------------------------------


def reason(why: Why) -> str:
    """The text of a reason."""
    return why if isinstance(why, str) else why()


def freeze(term: Term, why: Why) -> None:
    """Every unit of the term stays. The first reason is kept."""
    for axis in axes(term):
        if axis.frozen is None:
            axis.frozen = reason(why)


def mark_inexact(term: Term, why: Why, *, unsafe: bool) -> None:
    """Dropping units changes the function beyond silencing them: by a mean or variance, or `unsafe`ly by more."""
    for axis in axes(term):
        if axis.frozen is None and (axis.inexact is None or (unsafe and not axis.unsafe)):
            axis.inexact, axis.unsafe = reason(why), unsafe


def keep_at_least(term: Term, count: int) -> None:
    """No axis of the term may fall below `count` units (or its size, if that is less)."""
    for axis in axes(term):
        axis.least = max(axis.least, min(count, axis.n))


def keep_multiple(term: Term, of: int) -> None:
    """The size of the term stays a multiple: of a product, the innermost factor does."""
    term = find(term)
    if isinstance(term, Product):
        keep_multiple(term.parts[-1], of)
    elif isinstance(term, Cat):
        for part in term.parts:
            keep_multiple(part, of)
    else:
        for axis in axes(term):
            axis.multiple = math.lcm(axis.multiple, of)


def mark_kind(term: Term, kind: str) -> None:
    """Say what the units of the term are. What was said first is kept."""
    for axis in axes(term):
        axis.kind = axis.kind or kind


def collapse(term: Term) -> None:
    """One choice for all: whatever in the term was chosen anew per outer unit no longer is."""
    for axis in axes(term):
        if isinstance(axis, Each):
            axis.outer = None


def loose(dims: Sequence[Term]) -> list[Each]:
    """The Eachs in these dimensions whose outer units are not in sight there, or more than once."""
    if not any(isinstance(axis, Each) and axis.outer is not None for dim in dims for axis in axes(dim)):
        return []
    return list(dict.fromkeys(axis for axis, count in _sights(product(dims)) if count != 1))


def _sights(term: Term, beside: Sequence[Sequence[Term]] = ()) -> Iterator[tuple[Each, int]]:
    """Wherever an Each with outer units stands in a term: it, and how often these stand beside it on the way there."""
    term = find(term)
    if isinstance(term, Axis):
        if isinstance(term, Each) and term.outer is not None:
            yield term, sum(_sightings(parts, term.outer) for parts in beside)
        return
    for i, part in enumerate(term.parts):
        more = (term.parts[:i], term.parts[i + 1 :]) if isinstance(term, Product) else ()
        yield from _sights(part, (*beside, *more))


def settle(dims: Sequence[Term]) -> None:
    """Collapse each Each that can no longer tell in these dimensions which outer unit it belongs to, and each Case."""
    cases = [leaf for dim in dims for leaf in _leaves(dim) if isinstance(leaf, Case)]
    if cases:
        seen = {axis for dim in dims for axis in axes(dim)}
        for case in cases:
            if not seen.issuperset(axes(case.selector)):
                merge(case)
    for axis in loose(dims):
        axis.outer = None


def merge(case: Case) -> None:
    """One axis for all cases."""
    if case.ref is None:
        for other in case.cases[1:]:
            unify(case.cases[0], other)
        case.ref = find(case.cases[0])


def merged(term: Term) -> Term:
    """A term with all of its cases merged."""
    for leaf in list(_leaves(term)):
        if isinstance(leaf, Case):
            merge(leaf)
    return find(term)


def pick(dims: Sequence[Term], i: int) -> list[list[Term]]:
    """The other dimensions for each unit of dimension i, which are told apart from here on.

    What each of these units may choose for itself (the head dims of q, k and v, say) goes separate ways; the counts
    stay equal, which is for the caller to say.
    """
    selector = find(dims[i])
    others = [dim for j, dim in enumerate(dims) if j != i]
    if isinstance(selector, Case) or not isinstance(selector, Axis):
        return [others] * selector.n
    for axis in [leaf for dim in others for leaf in _leaves(dim)]:
        if isinstance(axis, Each) and axis.ref is None and axis.frozen is None and _chosen_by(axis, selector):
            _bind(axis, Case(selector, [_free_of(axis, selector) for _ in range(selector.n)]))
    return [[in_case(dim, selector, k) for dim in others] for k in range(selector.n)]


def _chosen_by(axis: Each, selector: Axis) -> bool:
    """Whether each unit of the selector may have an axis of its own: they were factored out of one."""
    outer = set(axes(axis.outer)) if axis.outer is not None else set()
    return bool(outer) and (selector in outer or any(find(part) is selector for part in axis.beside))


def _free_of(axis: Each, selector: Axis) -> Axis:
    outer = [part for part in factors(axis.outer or ONE) if part is not selector]
    return Each(axis.n, product(outer)) if outer else Axis(axis.n)


def mingle(dims: Sequence[Term], i: int) -> None:
    """The units of one dimension meet each other: what was chosen anew for each of them no longer can be."""
    for leaf in [leaf for dim in dims for leaf in _leaves(dim) if isinstance(leaf, Case)]:
        if leaf in set(_leaves(dims[i])) or not set(axes(leaf.selector)).isdisjoint(axes(dims[i])):
            merge(leaf)
    met = set(axes(dims[i]))
    for dim in (*dims[:i], *dims[i + 1 :]):
        for axis in axes(dim):
            if isinstance(axis, Each) and axis.outer is not None and not met.isdisjoint(axes(axis.outer)):
                axis.outer = None


def _sightings(parts: Sequence[Term], outer: Term) -> int:
    """How often the factors of `outer` stand side by side among these, or in every part of a Cat among these."""
    count = sum(1 for _ in places(parts, outer))
    for part in parts:
        if isinstance(part, Cat) and not same(part, outer):
            inside = [_sightings(factors(piece), outer) for piece in part.parts]
            count += max(inside) if all(inside) else 0
    return count


def places(parts: Sequence[Term], outer: Term) -> Iterator[range]:
    """The runs of factors that are those of `outer`."""
    wanted = factors(outer)
    for i in range(len(parts) - len(wanted) + 1):
        if all(map(same, parts[i : i + len(wanted)], wanted)):
            yield range(i, i + len(wanted))


# --- unification ----------------------------------------------------------------------------------------------------


def _bind(axis: Axis, term: Term) -> None:
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
    axis.ref = term


def unify(x: Term, y: Term, why: Why = "unified") -> None:
    """Make two terms of one size the same, unit by unit; freeze both where they have no common refinement.

    >>> c, a, b = Axis(5), Axis(2), Axis(3)
    >>> unify(c, cat([a, b])); same(c, cat([a, b]))
    True
    """
    x, y = find(x), find(y)
    if x is y or x.n == y.n == 1:
        return None
    if isinstance(x, Case) or isinstance(y, Case):
        return unify(merged(x), merged(y), why)
    assert x.n == y.n, (x, y)
    if isinstance(x, Axis) and isinstance(y, Axis):
        _unify_axes(x, y)
    elif isinstance(x, Axis) or isinstance(y, Axis):
        axis, term = (x, y) if isinstance(x, Axis) else (y, x)
        assert isinstance(axis, Axis)
        collapse(axis)
        settle([term])  # the axis says nothing of outer units, so only those inside the term count
        _bind(axis, term)
    elif isinstance(x, Product) and isinstance(y, Product):
        _unify_products(x, y, why)
    else:
        _unify_cats(x, y, why)


def _unify_axes(x: Axis, y: Axis) -> None:
    x_outer = x.outer if isinstance(x, Each) else None
    y_outer = y.outer if isinstance(y, Each) else None
    if x_outer is None or y_outer is None or not same(x_outer, y_outer):
        collapse(x)
        collapse(y)
    _bind(x, y)


def _unify_products(x: Product, y: Product, why: Why) -> None:
    sizes = _refine([part.n for part in x.parts], [part.n for part in y.parts])
    xs = factor(x, sizes, why) if sizes else None
    ys = factor(y, sizes, why) if sizes else None
    if xs is None or ys is None:
        freeze(x, why)
        freeze(y, why)
        return
    for a, b in zip(xs, ys, strict=True):
        unify(a, b, why)


def _unify_cats(x: Term, y: Term, why: Why) -> None:
    offsets = sorted({*_bounds(x), *_bounds(y)})
    xs = cut(x, offsets, why)
    ys = cut(y, offsets, why)
    if xs is None or ys is None:
        freeze(x, why)
        freeze(y, why)
        return
    for a, b in zip(xs, ys, strict=True):
        unify(a, b, why)


def _bounds(term: Term) -> list[int]:
    return list(itertools.accumulate(part.n for part in term.parts)) if isinstance(term, Cat) else [term.n]


def cut(term: Term, offsets: Sequence[int], why: Why = "cut") -> list[Term] | None:
    """Split a term into consecutive pieces that end at the given offsets (ascending, the last is its size).

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


def _cut_with_nothing(term: Term, offsets: Sequence[int], why: Why) -> list[Term] | None:
    """Some pieces are empty."""
    ends = sorted({*offsets} - {0})
    pieces = cut(term, ends, why) if ends else []
    if pieces is None:
        return None
    rest = iter(pieces)
    return [next(rest) if a != b else Axis(0, "nothing") for a, b in itertools.pairwise([0, *offsets])]


def _cut_axis(axis: Axis, offsets: Sequence[int]) -> list[Term]:
    widths = [b - a for a, b in itertools.pairwise([0, *offsets])]
    outer = axis.outer if isinstance(axis, Each) else None
    parts = [Axis(n) if outer is None else Each(n, outer) for n in widths]
    _bind(axis, Cat(tuple(parts)))
    return list(parts)


def _cut_cat(term: Cat, offsets: Sequence[int], why: Why) -> list[Term] | None:
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


def _cut_product(term: Product, offsets: Sequence[int], why: Why) -> list[Term] | None:
    head, rest = term.parts[0], product(term.parts[1:])
    if any(o % rest.n for o in offsets):
        freeze(term, why)
        return None
    collapse(rest)  # its outer units are about to be told apart
    heads = cut(head, [o // rest.n for o in offsets], why)
    return None if heads is None else [product([h, rest]) for h in heads]


def _refine(a: Sequence[int], b: Sequence[int]) -> list[int] | None:
    """The coarsest factorisation that refines two factorisations of one number, or None."""

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


def factor(term: Term, sizes: Sequence[int], why: Why = "factored") -> list[Term] | None:
    """Write a term as a product of terms of the given sizes, outermost first.

    The last factor of a free axis is chosen anew for each unit of the one before it (`Each`), until something says
    otherwise. Returns None, with the term frozen, where the sizes do not fit its structure.

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


def _factor_with_ones(term: Term, sizes: Sequence[int], why: Why) -> list[Term] | None:
    real = [size for size in sizes if size != 1]
    parts = factor(term, real, why) if real else []
    if parts is None:
        return None
    rest = iter(parts)
    return [ONE if size == 1 else next(rest) for size in sizes]


def _factor_axis(axis: Axis, sizes: Sequence[int]) -> list[Term]:
    outer = axis.outer if isinstance(axis, Each) else None
    if outer is not None:
        parts: list[Axis] = [Each(n, outer) for n in sizes]
    else:
        parts = [Axis(n) for n in sizes[:-1]]
        parts.append(Each(sizes[-1], parts[-1], tuple(parts)))
    _bind(axis, Product(tuple(parts)))
    return list(parts)


def _factor_product(term: Product, sizes: Sequence[int], why: Why) -> list[Term] | None:
    fine = _refine([part.n for part in term.parts], sizes)
    flat = _split_factors(term, fine, why) if fine else None
    groups = _group(flat, sizes) if flat else None
    if groups is None:
        freeze(term, why)
    return groups


def _split_factors(term: Product, fine: Sequence[int], why: Why) -> list[Term] | None:
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


def _factor_cat(term: Cat, sizes: Sequence[int], why: Why) -> list[Term] | None:
    """Product(Cat(a, b), c) = Cat(Product(a, c), Product(b, c)): each part must hold whole rows, all alike."""
    row = math.prod(sizes[1:])
    if any(part.n % row for part in term.parts):
        freeze(term, why)
        return None
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
        collapse(other)  # the parts have outer units of their own
        unify(rows[0], other, why)
    inner = factor(rows[0], sizes[1:], why)
    if inner is None:
        freeze(term, why)
        return None
    return [cat(heads), *inner]


def reshape(dims: Sequence[Term], shape: Sequence[int], why: Why = "reshape") -> list[Term]:
    """The terms of a row-major tensor after `reshape` to `shape`.

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
        merged = product(old)
        parts = factor(merged, new, why)
        out += parts if parts is not None else [Axis(n, reason(why)) if n != 1 else ONE for n in new]
    return out


# --- evaluation -----------------------------------------------------------------------------------------------------


def size(term: Term, counts: Mapping[Axis, int]) -> int:
    """The size of a term when its axes have the given counts (all their units where not given)."""
    term = find(term)
    if isinstance(term, Case):
        return size(term.cases[0], counts)
    if isinstance(term, Axis):
        return counts.get(term, term.n)
    if isinstance(term, Cat):
        return sum(size(part, counts) for part in term.parts)
    return math.prod(size(part, counts) for part in term.parts)


def kept_size(term: Term, keep: Kept) -> int:
    """The size of a term when its axes keep the given units (see `positions`)."""
    kept = ((axis, keep.get(axis)) for axis in axes(term))
    counts = {axis: len(k[0] if _per_outer(k) else k) for axis, k in kept if k}  # type: ignore[arg-type]
    return size(term, counts)


def positions(term: Term, keep: Kept) -> list[int]:
    """The flat positions of a term that stay when its axes keep the given units, in order.

    An `Each` with an outer term keeps a list per outer unit; everything else keeps a list. The k-th place of a pruned
    `Each` holds the k-th unit that its outer unit keeps, whichever of the two digits comes first.

    >>> a, b = Axis(2), Axis(3)
    >>> positions(product([a, b]), {b: [0, 2]})
    [0, 2, 3, 5]
    """
    term = find(term)
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
    """Row-major indices from columns of digits, outermost first."""
    flat = list(columns[0])
    for column, n in zip(columns[1:], sizes[1:], strict=True):
        flat = [index * n + digit for index, digit in zip(flat, column, strict=True)]
    return flat


def _columns(term: Product, keep: Kept) -> list[list[int]]:
    """The digits of every kept element of a product whose factors do not depend on each other."""
    rows = itertools.product(*(positions(part, keep) for part in term.parts))
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in term.parts]


def _waiting(term: Term, keep: Kept) -> list[Each]:
    """The Eachs in a term that keep a list per outer unit, and cannot see that unit within the term."""
    return list(dict.fromkeys(a for a, count in _sights(term) if not count and _per_outer(keep.get(a, ()))))


def _dependent_columns(term: Product, keep: Kept, waiting: Sequence[Sequence[Each]]) -> list[list[int]]:
    """The same where a factor's units depend on the units of others: those come first."""
    sizes = [kept_size(part, keep) for part in term.parts]
    ranks = list(zip(*itertools.product(*map(range, sizes)), strict=True)) or [()] * len(sizes)
    done: dict[int, list[int]] = {}
    while len(done) < len(sizes):
        before = len(done)
        for i, part in enumerate(term.parts):
            outers = [_outer_column(term.parts, done, axis) for axis in waiting[i]]
            if i not in done and None not in outers:
                done[i] = _column(part, keep, waiting[i], outers, ranks[i])  # type: ignore[arg-type]
        assert len(done) > before, (term, "an Each without its outer units")
    return [done[i] for i in range(len(sizes))]


def _column(
    part: Term, keep: Kept, waiting: Sequence[Each], outers: Sequence[Sequence[int]], ranks: Sequence[int]
) -> list[int]:
    """One factor's digits, where `outers` gives for each Each that waits its outer unit in every row."""
    tables: dict[tuple[int, ...], list[int]] = {}
    column = []
    for row, rank in enumerate(ranks):
        units = tuple(outer[row] for outer in outers)
        if units not in tables:
            chosen = {axis: keep[axis][unit] for axis, unit in zip(waiting, units, strict=True)}
            tables[units] = positions(part, {**{a: keep[a] for a in axes(part) if a in keep}, **chosen})  # type: ignore[dict-item]
        column.append(tables[units][rank])
    return column


def _outer_column(parts: Sequence[Term], done: Mapping[int, Sequence[int]], axis: Each) -> list[int] | None:
    """The outer unit of an Each in every row, once the digits that tell it are done."""
    assert axis.outer is not None
    span = next(places(parts, axis.outer), None)
    if span is not None:
        return _flat([done[i] for i in span], [parts[i].n for i in span]) if all(i in done for i in span) else None
    i = next((i for i, part in enumerate(parts) if _sightings([part], axis.outer)), None)
    return [_unit(parts[i], at, axis.outer) for at in done[i]] if i is not None and i in done else None


def _unit(term: Term, at: int, outer: Term) -> int:
    """Which unit of `outer` a position of a term belongs to."""
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
    i = next(i for i, part in enumerate(parts) if isinstance(part, Cat) and _sightings([part], outer))
    return _unit(parts[i], digits[i], outer)
