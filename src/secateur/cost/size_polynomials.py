"""Sums of products of term sizes, as functions of the counts of axes, and their slopes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from secateur.terms import Axis, Cat, Term, find

Counts = npt.NDArray[np.int64]
Slopes = npt.NDArray[np.float64]
Monomials = dict[tuple[int, ...], int]  # sorted axis numbers -> coefficient
Products: TypeAlias = "Iterable[tuple[int, Sequence[Term]]]"
"""Products of sizes, each with its coefficient."""


class SizePolynomial:
    """A sum of products of term sizes, stored so that one evaluation takes a few array operations."""

    def __init__(self, products: Products, number: Mapping[Axis, int]):
        self.constant = 0
        self._slots: dict[tuple[tuple[tuple[int, ...], int], ...], int] = {}
        coefficients: list[int] = []
        slots: list[int] = []
        starts: list[int] = []
        places: list[int] = []
        for place, (coefficient, terms) in enumerate(products):
            sizes = [polynomial(term, number) for term in terms]
            coefficient *= math.prod(m.get((), 0) for m in sizes if set(m) == {()})
            live = [m for m in sizes if set(m) != {()}]
            if not live:
                self.constant += coefficient
                continue
            places.append(place)
            coefficients.append(coefficient)
            starts.append(len(slots))
            slots += [self._slot(m) for m in live]
        self._coefficients = np.array(coefficients, dtype=np.int64)
        self._product_slots = np.array(slots, dtype=np.intp)
        self._product_starts = np.array(starts, dtype=np.intp)
        self._product_lengths = np.diff(starts, append=len(slots))
        self.places = np.array(places, dtype=np.intp)  # indices of the products that depend on counts
        self._lay_out(len(number))

    def _slot(self, monomials: Monomials) -> int:
        return self._slots.setdefault(tuple(sorted(monomials.items())), len(self._slots))

    def _lay_out(self, one: int) -> None:
        """Build the arrays of monomials of the terms; axis number `one` stands for the count 1."""
        factors: list[int] = []
        factor_starts: list[int] = []
        weights: list[int] = []
        term_starts: list[int] = []
        for monomials in self._slots:
            term_starts.append(len(weights))
            for axes, weight in monomials:
                factor_starts.append(len(factors))
                factors += axes or (one,)
                weights.append(weight)
        self._factors = np.array(factors, dtype=np.intp)
        self._factor_starts = np.array(factor_starts, dtype=np.intp)
        self._weights = np.array(weights, dtype=np.int64)
        self._term_starts = np.array(term_starts, dtype=np.intp)
        self._factor_lengths = np.diff(factor_starts, append=len(factors))
        self._term_lengths = np.diff(term_starts, append=len(weights))

    def __call__(self, counts: Counts) -> int:
        """Return the value when axis i has counts[i] units."""
        return int(self.many(counts))

    def many(self, counts: Counts) -> Counts:
        """Return values for many sets of counts at once: (..., axes) -> (...)."""
        return self.constant + self.parts(counts).sum(-1)

    def parts(self, counts: Counts) -> Counts:
        """Return the products that depend on counts, one by one, in the order of `places`; counts: (..., axes)."""
        if not len(self.places):
            return np.zeros((*counts.shape[:-1], 0), dtype=np.int64)
        sizes = np.add.reduceat(self._monomials(_with_one(counts)), self._term_starts, axis=-1)
        products = np.multiply.reduceat(sizes[..., self._product_slots], self._product_starts, axis=-1)
        return products * self._coefficients

    def slopes(self, counts: Counts, weights: Slopes | float = 1.0) -> Slopes:
        """Return what one more unit of each axis adds, to first order: (axes,). `weights` multiplies the `parts`.

        The derivative with respect to an axis is the sum, over all monomials that contain it, of their value divided by
        its count.
        """
        if not len(self.places):
            return np.zeros(len(counts))
        with_one = _with_one(counts)
        monomials = self._monomials(with_one)
        sizes = np.add.reduceat(monomials, self._term_starts)[self._product_slots]
        products = np.multiply.reduceat(sizes, self._product_starts) * self._coefficients * weights
        by_size = np.bincount(self._product_slots, np.repeat(products, self._product_lengths) / sizes)
        by_monomial = np.repeat(by_size, self._term_lengths) * monomials
        by_factor = np.repeat(by_monomial, self._factor_lengths) / with_one[self._factors]
        return np.bincount(self._factors, by_factor, len(with_one))[:-1].astype(np.float64, copy=False)

    def _monomials(self, with_one: Counts) -> Counts:
        return np.multiply.reduceat(with_one[..., self._factors], self._factor_starts, axis=-1) * self._weights


def _with_one(counts: Counts) -> Counts:
    return np.concatenate([counts, np.ones((*counts.shape[:-1], 1), dtype=np.int64)], axis=-1)


def polynomial(term: Term, number: Mapping[Axis, int]) -> Monomials:
    """Return the size of a term as a polynomial over axis numbers."""
    term = find(term)
    if isinstance(term, Axis):
        return {(number[term],): 1} if term in number else {(): term.n}
    parts = [polynomial(part, number) for part in term.parts]
    return _sum(parts) if isinstance(term, Cat) else multiplied(parts)


def _sum(parts: Sequence[Monomials]) -> Monomials:
    total: Monomials = {}
    for part in parts:
        for axes, weight in part.items():
            total[axes] = total.get(axes, 0) + weight
    return total


def multiplied(parts: Sequence[Monomials]) -> Monomials:
    """Return the product of polynomials over axis numbers."""
    total: Monomials = {}
    for combination in itertools.product(*(part.items() for part in parts)):
        axes = tuple(sorted(itertools.chain.from_iterable(a for a, _ in combination)))
        total[axes] = total.get(axes, 0) + math.prod(w for _, w in combination)
    return total
