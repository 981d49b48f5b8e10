"""The allocation of widths as a mixed integer linear program, solved by HiGHS: the reference of `allocation.py`.

Bundle b is on one of its rungs, z[b, r] in {0, 1}, sum_r z[b, r] = 1, and loses the scores above this rung.
Costs are sums of products of counts, each count a sum over the rungs of its bundle. A product of the counts of two
bundles, f(b) g(c), is made linear over the rungs of one of them: v[r] stands for z[b, r] g(c), so that

    sum_r v[r] = g(c),    min(g) z[b, r] <= v[r] <= max(g) z[b, r],    f(b) g(c) = sum_r f(r) v[r]

which is exact if z is an integer. Products of more than two bundles (channels of channels of groups) raise an error.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from secateur.cost.size_polynomials import multiplied, polynomial
from secateur.graph.graph import Graph
from secateur.planning.solver.bundles import Bundle
from secateur.planning.solver.rungs import Chosen
from secateur.terms import Term

Row = dict[int, float]  # column -> coefficient


@dataclass(frozen=True)
class Optimum:
    """The rungs found, and whether HiGHS proved that they lose the least (up to its gap)."""

    chosen: Chosen
    proven: bool


@dataclass
class Program:
    """Columns and constraints. The first columns are the rungs of all bundles, bundle after bundle."""

    graph: Graph
    bundles: Sequence[Bundle]
    columns: int = 0
    rows: list[tuple[Row, float, float]] = field(default_factory=list)  # low <= row <= high
    _pairs: dict[tuple[int, tuple[int, ...]], list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = [len(bundle.levels) for bundle in self.bundles]
        self.first = np.cumsum([0, *lengths])[:-1].tolist()
        self.columns = self.wholes = sum(lengths)
        self.of_group = {g: b for b, bundle in enumerate(self.bundles) for g in bundle.groups}
        for first, length in zip(self.first, lengths, strict=True):
            self.rows.append((dict.fromkeys(range(first, first + length), 1.0), 1, 1))

    def budget(self, products: Iterable[tuple[int, Sequence[Term]]], limit: int) -> None:
        """Add the constraint that a sum of products of term sizes is at most `limit`."""
        row: Row = {}
        constant = 0.0
        for axes, weight in self._polynomial(products).items():
            parts = self._by_bundle(axes)
            for column, value in self._columns(parts).items():
                row[column] = row.get(column, 0.0) + weight * value
            constant += weight if not parts else 0.0
        self.rows.append(({c: value / limit for c, value in row.items()}, -np.inf, (limit - constant) / limit))

    def solve(self, lost: Sequence[np.ndarray], seconds: float, gap: float) -> Optimum | None:
        """Return the rungs with the least loss, or None if none was found. lost: for each bundle, the loss by rung."""
        cost, whole = np.zeros(self.columns), np.zeros(self.columns)
        cost[: self.wholes], whole[: self.wholes] = np.concatenate(lost), 1
        entries = [(n, c, value) for n, (row, _, _) in enumerate(self.rows) for c, value in row.items()]
        at, columns, values = zip(*entries, strict=True)
        matrix = sparse.csr_matrix((values, (at, columns)), shape=(len(self.rows), self.columns))
        low, high = zip(*((low, high) for _, low, high in self.rows), strict=True)
        result = milp(
            cost,
            constraints=LinearConstraint(matrix, low, high),
            integrality=whole,
            bounds=Bounds(0, np.where(whole, 1, np.inf)),
            options={"time_limit": seconds, "mip_rel_gap": gap},
        )
        if result.x is None:
            return None
        ends = [*self.first[1:], self.wholes]
        chosen = [int(np.argmax(result.x[a:b])) for a, b in zip(self.first, ends, strict=True)]
        return Optimum(np.array(chosen, dtype=np.intp), result.status == 0)

    def _polynomial(self, products: Iterable[tuple[int, Sequence[Term]]]) -> Mapping[tuple[int, ...], int]:
        number = {axis.term: i for i, axis in enumerate(self.graph.axes)}
        total: dict[tuple[int, ...], int] = {}
        for coefficient, terms in products:
            for axes, weight in multiplied([{(): coefficient}, *(polynomial(t, number) for t in terms)]).items():
                total[axes] = total.get(axes, 0) + weight
        return total

    def _by_bundle(self, axes: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
        """Return the axes of a product, bundle by bundle."""
        owners = sorted((self.of_group[self.graph.axes[i].group], i) for i in axes)
        return [(b, tuple(i for _, i in of)) for b, of in itertools.groupby(owners, key=lambda owned: owned[0])]

    def _columns(self, parts: Sequence[tuple[int, tuple[int, ...]]]) -> Row:
        """Return a product of counts as a sum over columns."""
        if not parts:
            return {}
        if len(parts) > 2:
            raise NotImplementedError(f"a product over {len(parts)} bundles")
        (b, mine), *others = parts
        if not others:
            return dict(zip(self._rungs(b), self._counts(b, mine), strict=True))
        return dict(zip(self._pair(b, *others[0]), self._counts(b, mine), strict=True))

    def _pair(self, b: int, c: int, theirs: tuple[int, ...]) -> list[int]:
        """Return the columns v[r] = z[b, r] g(c), one for each rung of b."""
        key = b, theirs
        if key not in self._pairs:
            made = list(range(self.columns, self.columns + len(self.bundles[b].levels)))
            self.columns += len(made)
            counts = self._counts(c, theirs)
            self.rows.append(
                (dict.fromkeys(made, 1.0) | {z: -g for z, g in zip(self._rungs(c), counts, strict=True)}, 0, 0)
            )
            for z, v in zip(self._rungs(b), made, strict=True):
                self.rows.append(({v: 1.0, z: -min(counts)}, 0, np.inf))
                self.rows.append(({v: 1.0, z: -max(counts)}, -np.inf, 0))
            self._pairs[key] = made
        return self._pairs[key]

    def _rungs(self, b: int) -> range:
        return range(self.first[b], self.first[b] + len(self.bundles[b].levels))

    def _counts(self, b: int, axes: Sequence[int]) -> list[float]:
        """Return, for each rung of a bundle, the product of the counts of some of its axes."""
        bundle, found = self.bundles[b], []
        for levels in bundle.levels:
            at = dict(zip(bundle.groups, levels, strict=True))
            chosen = [self.graph.axes[i] for i in axes]
            found.append(float(math.prod(at[a.group] * (a.size // self.graph.groups[a.group].steps) for a in chosen)))
        return found
