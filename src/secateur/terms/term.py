"""The kinds of terms, how they are built in normal form, and how they are read."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

Reason: TypeAlias = "str | Callable[[], str]"  # or a function that makes it: finding a source line is slow

CHANNEL, HEAD, HEAD_DIM, EXPERT = KINDS = ("channel", "head", "head_dim", "expert")  # the kinds of units


class Axis:
    """`n` units. `frozen` and `inexact` hold the first reason, or None; `least` is the smallest allowed count.

    Any count below `n` must be a multiple of `multiple`. `within` has the cases of a `Case` that the axis is a part of,
    and that must keep equal sizes. `kind` names the units (one of `KINDS`), where it is known; it does not influence
    unification.
    """

    __slots__ = ("frozen", "inexact", "kind", "least", "multiple", "n", "ref", "serial", "unsafe", "within")
    _serial = itertools.count()

    def __init__(self, n: int, frozen: str | None = None):
        self.n = n
        self.ref: Term | None = None
        self.frozen = frozen
        self.inexact: str | None = None
        self.unsafe = False  # inexact by more than a mean or a variance
        self.least = 1
        self.multiple = 1
        self.within: tuple[Case, ...] = ()
        self.kind: str | None = None
        self.serial = next(Axis._serial)

    def __repr__(self) -> str:
        return f"a{self.serial}:{self.n}{'!' if self.frozen else ''}"


class PerUnit(Axis):
    """The inner axis of a product with `outer`: every outer unit has its own choice of units, all equally many.

    With `outer = None` (see `collapse`) it is an ordinary axis: all outer units share one choice.
    """

    __slots__ = ("beside", "outer")

    def __init__(self, n: int, outer: Term | None, beside: Sequence[Term] = ()):
        super().__init__(n)
        self.outer = outer
        self.beside = beside  # the factors of the axis that it was factored out of

    def __repr__(self) -> str:
        return super().__repr__() + ("" if self.outer is None else "/each")


class Case(Axis):
    """A different term for each unit of `selector`, such as the q, k and v of a fused layer; the sizes are equal.

    It is used while the selector is a dimension of its own. Where the cases cannot be distinguished, `settle` merges
    them into one term.
    """

    __slots__ = ("cases", "selector")

    def __init__(self, selector: Axis, cases: Sequence[Term]):
        super().__init__(cases[0].n)
        self.selector = selector
        self.cases = cases

    def __repr__(self) -> str:
        return f"{self.selector!r}?{'|'.join(map(repr, self.cases))}"


class Cat:
    """A concatenation of terms."""

    __slots__ = ("n", "parts")

    def __init__(self, parts: tuple[Term, ...]):
        self.parts = parts
        self.n = sum(part.n for part in parts)

    def __repr__(self) -> str:
        return "(" + " + ".join(map(repr, self.parts)) + ")"


class Product:
    """A row-major product of terms: each is one digit of the index, outermost first."""

    __slots__ = ("n", "parts")

    def __init__(self, parts: tuple[Term, ...]):
        self.parts = parts
        self.n = math.prod(part.n for part in parts)

    def __repr__(self) -> str:
        return "(" + " * ".join(map(repr, self.parts)) + ")"


Term: TypeAlias = Axis | Cat | Product
Kept: TypeAlias = "Mapping[Axis, Sequence[int] | Sequence[Sequence[int]]]"

ONE = Axis(1, "size one")


def _spliced(kind: type[Cat] | type[Product], terms: Iterable[Term]) -> Iterator[Term]:
    for term in terms:
        found = find(term)
        if isinstance(found, kind):
            yield from found.parts
        else:
            yield found


def cat(terms: Iterable[Term]) -> Term:
    """Return the concatenation of terms, in normal form.

    >>> cat([Axis(2), cat([Axis(3), Axis(4)])]).n
    9
    """
    parts = tuple(part for part in _spliced(Cat, terms) if part.n != 0)
    return parts[0] if len(parts) == 1 else Cat(parts)


def product(terms: Iterable[Term]) -> Term:
    """Return the row-major product of terms, in normal form.

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
    """Rewrite a Case: Product(a, s, b, Case(s, (x, y))) = Product(a, Cat(Product(b, x), Product(b, y))).

    If the selector comes directly behind it, the units of the cases take turns; see `_in_turn`.
    """
    for i, (part, behind) in enumerate(itertools.pairwise(parts)):
        if isinstance(part, Case) and find(part.selector) is behind and (turns := _in_turn(part, behind)):
            return product([*parts[:i], cat(turns), *parts[i + 2 :]])
    selectors = [find(part.selector) for part in parts if isinstance(part, Case)]
    at = next((i for i, part in enumerate(parts) if any(part is s for s in selectors)), None)
    if at is None or not any(isinstance(p, Case) and find(p.selector) is parts[at] for p in parts[at:]):
        return parts[0] if len(parts) == 1 else Product(parts)
    behind = (product(in_case(part, parts[at], k) for part in parts[at + 1 :]) for k in range(parts[at].n))
    return product([*parts[:at], cat(behind)])


def _in_turn(case: Case, selector: Term) -> list[Term] | None:
    """Return the parts of Product(case, selector), whose position (k, i) holds unit k of case i.

    Where each case is at the same term x, the part is Product(x, selector), wherever it begins. None: some are not.
    """
    columns = [[(p, u) for p in _summands(c) for u in range(p.n)] for c in case.cases]
    units = list(itertools.chain.from_iterable(zip(*columns, strict=True)))
    parts: list[Term] = []
    at = 0
    while at < len(units):
        part, width = units[at][0], selector.n
        run = units[at : at + part.n * width]
        if len(run) == part.n * width and all(p is part and u == k // width for k, (p, u) in enumerate(run)):
            parts.append(product([part, selector]))
        elif part.n == 1:
            parts.append(part)
        else:
            return None
        at += parts[-1].n
    return parts


def _summands(term: Term) -> tuple[Term, ...]:
    term = find(term)
    return term.parts if isinstance(term, Cat) else (term,)


def in_case(term: Term, selector: Term, k: int) -> Term:
    """Return a term as it is for unit `k` of a selector."""
    term = find(term)
    if isinstance(term, Axis):
        return find(term.cases[k]) if isinstance(term, Case) and find(term.selector) is selector else term
    parts = (in_case(part, selector, k) for part in term.parts)
    return cat(parts) if isinstance(term, Cat) else product(parts)


def find(term: Term) -> Term:
    """Return what a term stands for now: follow its bindings (and shorten them on the way)."""
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
    """Yield the free axes of a term, left to right."""
    for leaf in leaves(term):
        if isinstance(leaf, Case):
            for case in leaf.cases:
                yield from axes(case)
        else:
            yield leaf


def leaves(term: Term) -> Iterator[Axis]:
    """Yield the free axes and the cases of a term, left to right."""
    term = find(term)
    if isinstance(term, Axis):
        yield term
    else:
        for part in term.parts:
            yield from leaves(part)


def same(x: Term, y: Term) -> bool:
    """Return whether two terms are equal part by part (and not only of equal size)."""
    x, y = find(x), find(y)
    if x is y:
        return True
    if isinstance(x, Axis) or isinstance(y, Axis) or type(x) is not type(y) or len(x.parts) != len(y.parts):
        return False
    return all(map(same, x.parts, y.parts))


def factors(term: Term) -> tuple[Term, ...]:
    """Return the factors of a product; any other term is its own single factor."""
    term = find(term)
    return term.parts if isinstance(term, Product) else (term,)


def sized(term: Term) -> Term:
    """Return a term of the same size in every plan without cases: the first case stands for all of them."""
    term = find(term)
    if isinstance(term, Case):
        return sized(term.cases[0])
    if isinstance(term, Axis):
        return term
    parts = map(sized, term.parts)
    return cat(parts) if isinstance(term, Cat) else product(parts)
