"""What code asks of sizes beside equations: comparisons that keep their outcome, attributes that are whole numbers.

A condition that reads the count of one group alone strikes rungs off its ladder before anything is planned. What is
to be done about one that reads several, `meeting.py` says.
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

Levels = Mapping[int, Any]  # steps that stay of some groups, one number or an array of choices; all of the others


class Values:
    """Sizes, attributes and ratios under some levels; `whole` says where every ratio read was a whole number."""

    def __init__(self, graph: Graph, levels: Levels):
        self._graph, self._counts, self.whole = graph, {}, np.asarray(True)
        for axis in (*graph.axes, *graph.reduced.ghosts):
            if axis.group in levels:
                self._counts[axis.term] = count_at(graph, axis, levels[axis.group])

    def of(self, expr: Expr) -> Any:
        """The value of an expression."""
        return evaluate(expr, self._leaf)

    def ratio(self, ratio: Ratio) -> Any:
        """The value of a ratio, rounded down where it is no whole number."""
        over, under = (poly.at(lambda axis: self._counts.get(axis, axis.n)) for poly in (ratio.over, ratio.under))
        self.whole = self.whole & (np.asarray(under) != 0) & (over % np.maximum(under, 1) == 0)
        return over // np.maximum(under, 1)

    def _leaf(self, leaf: Dim | Attribute) -> Any:
        if isinstance(leaf, Dim):
            return size(leaf.term, self._counts)
        ratio = self._graph.sizes.attributes.get(leaf)
        return self._graph.sizes.values[leaf] if ratio is None else self.ratio(ratio)


def count_at(graph: Graph, axis: PrunableAxis, level: Any) -> Any:
    """How many units of an axis stay where its group keeps so many steps."""
    return axis.size * level // graph.groups[axis.group].steps


@dataclass(frozen=True)
class CountCondition:
    """Something that must be true of the levels of some groups. asks: a comparison, or an attribute's value."""

    asks: SizeGuard | Ratio
    groups: frozenset[int]
    where: str

    def holds(self, graph: Graph, levels: Levels) -> Any:
        """Whether it is true at these levels: a truth value, or one for every choice."""
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
    """All conditions of a graph that a choice can break."""

    graph: Graph

    @cached_property
    def all(self) -> list[CountCondition]:
        """Those that read something that can change."""
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
        """Those that are not true of these counts."""
        levels = self.levels(counts)
        for condition in self.all:
            if not condition.holds(self.graph, {g: levels[g] for g in condition.groups}):
                yield condition

    def levels(self, counts: Counts) -> dict[int, int]:
        """How many steps of each group these counts keep."""
        pairs = zip(self.graph.axes, counts, strict=True)
        return {axis.group: int(n) * self.graph.groups[axis.group].steps // axis.size for axis, n in pairs}

    def within(self, group: Group, levels: np.ndarray) -> np.ndarray:
        """The levels of a group at which all that is asked of it alone is true."""
        number = group.axes[0].group
        for condition in self._alone.get(number, ()):
            levels = levels[np.broadcast_to(condition.holds(self.graph, {number: levels}), levels.shape)]
        return levels

    def against(self, number: int, level: int) -> str | None:
        """What is asked of a group alone that is not true at a level; None where all of it is."""
        broken = (c.where for c in self._alone.get(number, ()) if not np.all(c.holds(self.graph, {number: level})))
        return next(broken, None)

    def nothing_left(self, group: Group, levels: np.ndarray) -> InputError:
        """What to say where none of these levels is allowed."""
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
