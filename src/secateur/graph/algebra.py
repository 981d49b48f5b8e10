"""Sizes as polynomials: integer coefficients over the counts of axes.

A `Poly` maps monomials (sorted tuples of axes) to coefficients. A `Ratio` is one polynomial divided by another, with
their common monomial factor cancelled. This is just enough to decide whether `C // heads` and `head_dim` are the same
number for every pruned model; a size that does not divide exactly raises `Opaque`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from secateur.terms import Axis

Monomial: TypeAlias = "tuple[Axis, ...]"


def _serial(axis: Axis) -> int:
    return axis.serial


class Opaque(Exception):
    """Raised for a size that no polynomial describes."""


class Poly(dict[Monomial, int]):
    """A polynomial; zero is the empty one."""

    @staticmethod
    def constant(value: int) -> Poly:
        return Poly({(): value} if value else {})

    @staticmethod
    def variable(var: Axis, coefficient: int = 1) -> Poly:
        return Poly({(var,): coefficient})

    def __add__(self, other: Poly) -> Poly:
        total = Counter(self)
        total.update(other)
        return Poly({m: c for m, c in total.items() if c})

    def __sub__(self, other: Poly) -> Poly:
        return self + other * Poly.constant(-1)

    def __mul__(self, other: Poly) -> Poly:
        total: Counter[Monomial] = Counter()
        for m1, c1 in self.items():
            for m2, c2 in other.items():
                total[tuple(sorted(m1 + m2, key=_serial))] += c1 * c2
        return Poly({m: c for m, c in total.items() if c})

    @property
    def variables(self) -> set[Axis]:
        return {var for monomial in self for var in monomial}

    @property
    def value(self) -> int | None:
        """The number, if it has no variables; otherwise None."""
        return None if self.variables else self.get((), 0)

    def at(self, read: Callable[[Axis], int]) -> int:
        """Return the value when each axis has the count that `read` returns."""
        return sum(c * math.prod(map(read, m)) for m, c in self.items())


@dataclass(frozen=True)
class Ratio:
    """`over / under`, with common monomial and integer factors cancelled."""

    over: Poly
    under: Poly

    @staticmethod
    def of(over: Poly, under: Poly | None = None) -> Ratio:
        if under is None or under == {(): 1}:
            return Ratio(over, Poly.constant(1))
        if not under:
            raise Opaque("division by zero")
        return Ratio(*_cancel(over, under))

    @property
    def key(self) -> tuple[frozenset[tuple[Monomial, int]], frozenset[tuple[Monomial, int]]]:
        return frozenset(self.over.items()), frozenset(self.under.items())

    @property
    def variables(self) -> set[Axis]:
        return self.over.variables | self.under.variables

    def at(self, read: Callable[[Axis], int]) -> int:
        """Return the value when each axis has the count that `read` returns. Raises `Opaque` for a fraction."""
        under = self.under.at(read)
        if not under:
            raise Opaque("division by zero")
        quotient, rest = divmod(self.over.at(read), under)
        if rest:
            raise Opaque("not a whole number")
        return quotient

    def __add__(self, other: Ratio) -> Ratio:
        return Ratio.of(self.over * other.under + other.over * self.under, self.under * other.under)

    def __sub__(self, other: Ratio) -> Ratio:
        return Ratio.of(self.over * other.under - other.over * self.under, self.under * other.under)

    def __mul__(self, other: Ratio) -> Ratio:
        return Ratio.of(self.over * other.over, self.under * other.under)

    def __truediv__(self, other: Ratio) -> Ratio:
        return Ratio.of(self.over * other.under, self.under * other.over)


def _cancel(over: Poly, under: Poly) -> tuple[Poly, Poly]:
    """Divide both by their common monomial factor and common integer factor."""
    if not over:
        return over, Poly.constant(1)
    if over == under:
        return Poly.constant(1), Poly.constant(1)
    common = _common([*over, *under])
    divisor = math.gcd(*over.values(), *under.values())
    return _divided(over, common, divisor), _divided(under, common, divisor)


def _common(monomials: Iterable[Monomial]) -> Counter[Axis]:
    first, *rest = monomials
    common = Counter(first)
    for monomial in rest:
        common &= Counter(monomial)
    return common


def _divided(poly: Poly, common: Counter[Axis], divisor: int) -> Poly:
    return Poly({tuple((Counter(m) - common).elements()): c // divisor for m, c in poly.items()})


def balanced(left: Ratio, right: Ratio) -> tuple[Poly, Poly]:
    """Write `left == right` as an equation of two polynomials, without the terms that are equal on both sides."""
    over, under = left.over * right.under, right.over * left.under
    difference = over - under
    positive = Poly({m: c for m, c in difference.items() if c > 0})
    negative = Poly({m: -c for m, c in difference.items() if c < 0})
    return _cancel(positive, negative) if positive and negative else (positive, negative)
