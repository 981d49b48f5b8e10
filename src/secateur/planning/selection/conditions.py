"""Conditions that code sets on sizes: comparisons must keep their outcome, attributes must be whole numbers.

A condition on the count of a single group removes levels from its ladder before planning. Conditions on several groups
are handled in `meeting.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from secateur.cost.size_polynomials import Counts
from secateur.errors import InputError
from secateur.graph.algebra import Ratio
from secateur.graph.graph import Graph
from secateur.graph.parts import Group, PrunableAxis
from secateur.graph.sizes import Attribute, Dim, Expr, SizeGuard, evaluate, holds, leaves
from secateur.terms import Axis, axes, size

Levels = Mapping[int, Any]  # group -> steps that stay: a number or an array of choices; other groups keep all steps


class Values:
    """Values of sizes, attributes and ratios at given levels; `whole` is true where every ratio was a whole number."""

    def __init__(self, graph: Graph, levels: Levels):
        self._graph, self._counts, self.whole = graph, {}, np.asarray(True)
        for axis in (*graph.axes, *graph.reduced.ghosts):
            if axis.group in levels:
                self._counts[axis.term] = count_at(graph, axis, levels[axis.group])

    def of(self, expr: Expr) -> Any:
        """Return the value of an expression."""
        return evaluate(expr, self._leaf)

    def ratio(self, ratio: Ratio) -> Any:
        """Return the value of a ratio, rounded down if it is not a whole number."""
        over, under = (poly.at(lambda axis: self._counts.get(axis, axis.n)) for poly in (ratio.over, ratio.under))
        self.whole = self.whole & (np.asarray(under) != 0) & (over % np.maximum(under, 1) == 0)
        return over // np.maximum(under, 1)

    def _leaf(self, leaf: Dim | Attribute) -> Any:
        if isinstance(leaf, Dim):
            return size(leaf.term, self._counts)
        ratio = self._graph.sizes.attributes.get(leaf)
        return self._graph.sizes.values[leaf] if ratio is None else self.ratio(ratio)


def count_at(graph: Graph, axis: PrunableAxis, level: Any) -> Any:
    """Return how many units of an axis stay if its group keeps `level` steps."""
    return axis.size * level // graph.groups[axis.group].steps


@dataclass(frozen=True)
class CountCondition:
    """A condition on the levels of some groups.

    Args:
        asks: A comparison that must keep its outcome, or an attribute's value that must be a whole number.
        groups: The groups that it reads.
        where: Description for messages.
    """

    asks: SizeGuard | Ratio
    groups: frozenset[int]
    where: str

    def holds(self, graph: Graph, levels: Levels) -> Any:
        """Return whether it is true at these levels: one truth value, or an array with one per choice."""
        values = Values(graph, levels)
        if isinstance(self.asks, Ratio):
            values.ratio(self.asks)
            return values.whole
        with np.errstate(divide="raise"):
            try:
                return holds(self.asks, values.of) & values.whole
            except (ZeroDivisionError, FloatingPointError):
                return np.asarray(False)


@dataclass(frozen=True)
class Conditions:
    """All conditions of a graph that a choice of counts can break."""

    graph: Graph

    @cached_property
    def all(self) -> list[CountCondition]:
        """The conditions that read a size that can change."""
        return [condition for condition in self._found() if condition.groups]

    def _found(self) -> Iterator[CountCondition]:
        for attribute, ratio in self.graph.sizes.attributes.items():
            if ratio.under.value != 1:
                yield CountCondition(ratio, self._groups(ratio.variables), f"{attribute} is a whole number")
        for guard in self.graph.sizes.guards:
            read = {axis for side in (guard.left, guard.right) for axis in self._read(side)}
            yield CountCondition(guard, self._groups(read), f"the comparison at {guard.where}")

    def _read(self, expr: Expr) -> Iterator[Axis]:
        for leaf in leaves(expr):
            if isinstance(leaf, Dim):
                yield from axes(leaf.term)
            elif leaf in self.graph.sizes.attributes:
                yield from self.graph.sizes.attributes[leaf].variables

    def _groups(self, found: Iterable[Axis]) -> frozenset[int]:
        return frozenset(self._group_of[axis] for axis in found if axis in self._group_of)

    @cached_property
    def _group_of(self) -> dict[Axis, int]:
        known = (axis for axis in (*self.graph.axes, *self.graph.reduced.ghosts) if axis.group >= 0)
        return {axis.term: axis.group for axis in known}

    def broken(self, counts: Counts) -> Iterator[CountCondition]:
        """Yield the conditions that are not true of these counts."""
        levels = self.levels(counts)
        for condition in self.all:
            if not condition.holds(self.graph, {g: levels[g] for g in condition.groups}):
                yield condition

    def levels(self, counts: Counts) -> dict[int, int]:
        """Return how many steps of each group these counts keep."""
        pairs = zip(self.graph.axes, counts, strict=True)
        return {axis.group: int(n) * self.graph.groups[axis.group].steps // axis.size for axis, n in pairs}

    def within(self, group: Group, levels: np.ndarray) -> np.ndarray:
        """Return the levels of a group at which all conditions on this group alone are true."""
        number = group.axes[0].group
        for condition in self._alone.get(number, ()):
            levels = levels[np.broadcast_to(condition.holds(self.graph, {number: levels}), levels.shape)]
        return levels

    def against(self, number: int, level: int) -> str | None:
        """Describe a condition on this group alone that is false at a level; None if all are true."""
        broken = (c.where for c in self._alone.get(number, ()) if not np.all(c.holds(self.graph, {number: level})))
        return next(broken, None)

    def nothing_left(self, group: Group, levels: np.ndarray) -> InputError:
        """Return the error for a group of which no level is allowed."""
        axis = group.axes[0]
        least, most = (count_at(self.graph, axis, int(level)) for level in (levels[-1], levels[0]))
        asks = next(c.where for c in self._alone[axis.group] if not np.all(c.holds(self.graph, {axis.group: levels})))
        return InputError(f"no count of {axis.name!r} from {least} to {most} keeps this condition true: {asks}")

    @cached_property
    def _alone(self) -> dict[int, list[CountCondition]]:
        found: dict[int, list[CountCondition]] = {}
        for condition in self.all:
            if len(condition.groups) == 1:
                found.setdefault(min(condition.groups), []).append(condition)
        return found
