"""What a pruned model costs, by exact integer arithmetic on its axes' counts: no model is built.

MACs are the multiply-adds of convolutions, linear layers, matrix products and attention in the first traced call, at
the batch size of its inputs; element-wise work, norms and softmax count nothing. Parameters count once however many
modules share them. Neither says how long the model takes: that is measured, not computed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .graph import Graph
from .terms import Axis, Cat, Term, find

Counts = npt.NDArray[np.int64]
Monomials = dict[tuple[int, ...], int]  # sorted axis numbers -> coefficient


class Form:
    """A sum of products of term sizes, laid out so that one evaluation is a handful of array operations."""

    def __init__(self, products: Iterable[tuple[int, Sequence[Term]]], number: Mapping[Axis, int]):
        self.constant = 0
        self._slots: dict[tuple[tuple[tuple[int, ...], int], ...], int] = {}
        coefficients: list[int] = []
        slots: list[int] = []
        starts: list[int] = []
        for coefficient, terms in products:
            sizes = [_monomials(term, number) for term in terms]
            coefficient *= math.prod(m.get((), 0) for m in sizes if set(m) == {()})
            live = [m for m in sizes if set(m) != {()}]
            if not live:
                self.constant += coefficient
                continue
            coefficients.append(coefficient)
            starts.append(len(slots))
            slots += [self._slot(m) for m in live]
        self._coefficients = np.array(coefficients, dtype=np.int64)
        self._product_slots = np.array(slots, dtype=np.intp)
        self._product_starts = np.array(starts, dtype=np.intp)
        self._lay_out(len(number))

    def _slot(self, monomials: Monomials) -> int:
        return self._slots.setdefault(tuple(sorted(monomials.items())), len(self._slots))

    def _lay_out(self, one: int) -> None:
        """Arrays of the terms' monomials; axis number `one` stands for the count 1."""
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

    def __call__(self, counts: Counts) -> int:
        """The value when axis i has counts[i] units."""
        if not len(self._coefficients):
            return self.constant
        with_one = np.append(counts, 1)
        monomials = np.multiply.reduceat(with_one[self._factors], self._factor_starts) * self._weights
        sizes = np.add.reduceat(monomials, self._term_starts)
        products = np.multiply.reduceat(sizes[self._product_slots], self._product_starts)
        return self.constant + int((products * self._coefficients).sum())


def _monomials(term: Term, number: Mapping[Axis, int]) -> Monomials:
    """The size of a term as a polynomial over axis numbers."""
    term = find(term)
    if isinstance(term, Axis):
        return {(number[term],): 1} if term in number else {(): term.n}
    parts = [_monomials(part, number) for part in term.parts]
    return _sum(parts) if isinstance(term, Cat) else _product(parts)


def _sum(parts: Sequence[Monomials]) -> Monomials:
    total: Monomials = {}
    for part in parts:
        for axes, weight in part.items():
            total[axes] = total.get(axes, 0) + weight
    return total


def _product(parts: Sequence[Monomials]) -> Monomials:
    total: Monomials = {}
    for combination in itertools.product(*(part.items() for part in parts)):
        axes = tuple(sorted(itertools.chain.from_iterable(a for a, _ in combination)))
        total[axes] = total.get(axes, 0) + math.prod(w for _, w in combination)
    return total


class Cost:
    """Parameters and MACs of a graph's plans as functions of the counts of its axes, in the order of `graph.axes`.

    >>> import secateur, torch
    >>> graph = secateur.trace(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)), torch.zeros(1, 4))
    >>> cost = Cost.of(graph)
    >>> cost.params(cost.full), cost.macs(cost.full), cost.params(np.array([4]))
    (58, 48, 30)
    """

    def __init__(self, graph: Graph):
        number = {axis.term: i for i, axis in enumerate(graph.axes)}
        self.full: Counts = np.array([axis.size for axis in graph.axes], dtype=np.int64)
        parameters = [(1, site.dims) for site in graph.sites.values() if site.kind == "parameter"]
        self.params = Form(parameters, number)
        self.macs = Form([(m.coefficient, m.terms) for m in graph.macs], number)

    @staticmethod
    def of(graph: Graph) -> Cost:
        """The cost functions of a graph, laid out once and kept with it."""
        kept = graph.__dict__  # a frozen dataclass refuses setattr, and this is no part of its value
        if "_cost" not in kept:
            kept["_cost"] = Cost(graph)
        return kept["_cost"]
