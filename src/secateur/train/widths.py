"""How many units of each axis remain at each step of a loop, as counts of the original.

Shares of shares drift by rounding: 0.9 of 0.9 of 7 units is another count than 0.81 of 7. So every count is computed
once, on the axes as they were before the first cut, by the rules of a single cut; a step then requests it as an exact
number. `keep`, `width` and `ceiling` of a selection, and a `channels` target, follow the schedule; floors hold from the
first step on, also as shares of the original.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from secateur.graph.graph import Graph
from secateur.graph.parts import Group, PrunableAxis
from secateur.planning.selection.catalogue import Catalogue
from secateur.planning.selection.limits_by_axis import Wishes
from secateur.planning.selection.rules import SIZES, Rule
from secateur.planning.selection.select import Select
from secateur.planning.selection.selector import Condition, Selector
from secateur.planning.solver.bundles import Bundle, bundled
from secateur.planning.solver.ladders import ladders
from secateur.planning.solver.spread import spread
from secateur.terms import Axis
from secateur.train.schedules import Schedule

Follow: TypeAlias = Callable[[float], Schedule]
"""From the share at the end to a schedule."""

EXACT = 1e-9
_SIZED = (*SIZES, "ceiling")


@dataclass(frozen=True, slots=True)
class WidthRange:
    """The least and the most units of an axis that may remain."""

    least: int
    most: int


class Widths:
    """The limits of a selection and a `channels` target on the axes of a graph, step by step."""

    def __init__(self, graph: Graph, wishes: Wishes, channels: float, follow: Follow):
        rules = [rule for rule in map(_unsized, wishes.rules) if rule is not None]
        free = Wishes(graph, rules, replace(wishes.general, ceiling=1.0))
        ends = _bundles(graph, wishes)
        rungs = spread(graph, ends, channels)
        ways = zip(ends, rungs, _bundles(graph, free), strict=True)
        self._courses = [_Course(graph, end, int(last), between, channels, follow) for end, last, between in ways]

    def at(self, step: int) -> dict[str, WidthRange]:
        """Return the range of each axis after a step, by its name."""
        return {name: limits for course in self._courses for name, limits in course.at(step).items()}


class _Course:
    """The sizes of one bundle of groups at each step.

    end: the levels that the whole selection allows, of which `last` is the final one; between: the levels that it
    allows without its limits on sizes.
    """

    def __init__(self, graph: Graph, end: Bundle, last: int, between: Bundle, channels: float, follow: Follow):
        self._groups = [graph.groups[g] for g in end.groups]
        self._bottom, self._end = end.levels[-1], end.levels[last]
        self._between = between
        top = max(level / steps for level, steps in zip(end.levels[0], end.steps, strict=True))
        self._ways = [(share, follow(share)) for share in (channels, top)]

    def at(self, step: int) -> dict[str, WidthRange]:
        """Return the range of each axis of the bundle after a step."""
        levels = self._levels(step)
        exact = self._bottom == self._end  # only the schedule decides
        bottoms = levels if exact else self._bottom
        found = {}
        for group, least, most in zip(self._groups, bottoms, levels, strict=True):
            for axis in group.axes:
                unit = axis.size // group.steps
                found[axis.name] = WidthRange(least * unit, most * unit)
        return found

    def _levels(self, step: int) -> Sequence[int]:
        shares = [way(step) for _, way in self._ways]
        if all(share <= end + EXACT for share, (end, _) in zip(shares, self._ways, strict=True)):
            return self._end
        now = self._between.levels[self._between.first(min(shares))]
        return [max(a, b) for a, b in zip(now, self._end, strict=True)]


def _bundles(graph: Graph, wishes: Wishes) -> list[Bundle]:
    """Return the levels that a plan chooses from, which do not depend on scores."""
    return bundled(graph, ladders(graph, {}, wishes, "axis"), wishes, [1] * len(graph.groups))


def _unsized(rule: Rule) -> Rule | None:
    """Return a rule without its limits on sizes."""
    settings = {word: value for word, value in rule.settings.items() if word not in _SIZED}
    return Rule(rule.match, settings, rule.name) if settings else None


def as_it_was(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """Return the graph with its axes in their original sizes, for counting only."""
    axes = tuple(replace(axis, term=_of_size(axis.term, sizes[axis.name])) for axis in graph.axes)
    groups = []
    for number in range(len(graph.groups)):
        members = tuple(axis for axis in axes if axis.group == number)
        groups.append(Group(members, math.gcd(*(axis.size for axis in members))))
    return replace(graph, axes=axes, groups=tuple(groups))


def _of_size(term: Axis, size: int) -> Axis:
    if term.n == size:
        return term
    wide = copy.copy(term)
    wide.n = size
    return wide


def selection(graph: Graph, select: Select, ranges: Mapping[str, WidthRange]) -> Select:
    """Return `select` without its sizes and without rules that match nothing any more, plus rules for the ranges."""
    rules = [_rule(axis, limits) for axis, limits in _by_group(graph, ranges)]
    return Select(align=select.align, floor=0.0, rules=[*_still_meant(graph, select), *rules])


def cuts(graph: Graph, ranges: Mapping[str, WidthRange]) -> bool:
    """Return whether the ranges alone request fewer units than the graph has."""
    return any(limits.most < axis.size for axis, limits in _by_group(graph, ranges))


def _by_group(graph: Graph, ranges: Mapping[str, WidthRange]) -> Iterator[tuple[PrunableAxis, WidthRange]]:
    """Yield the range of one axis of each group, to which the others are tied. An axis without a range is kept."""
    for group in graph.groups:
        axis = next((axis for axis in group.axes if axis.name in ranges), group.axes[0])
        yield axis, _possible(axis, group, ranges.get(axis.name, WidthRange(axis.size, axis.size)))


def _possible(axis: PrunableAxis, group: Group, limits: WidthRange) -> WidthRange:
    """Return the range in counts that the axis can have, which may differ from those of the original."""
    counts = [axis.size // group.steps * level for level in range(1, group.steps + 1)]
    able = [n for n in counts if n == axis.size or (n >= axis.least and n % axis.multiple == 0)]
    most = max((n for n in able if n <= limits.most), default=able[0])
    return WidthRange(min(limits.least, most), most)


def _still_meant(graph: Graph, select: Select) -> Iterator[Rule]:
    """Yield the rules on coupling, alignment and protection that still match something."""
    catalogue = Catalogue(graph)
    for rule in select.on(graph).rules:
        for word in ("protect", "only", "align", "together"):
            if word in rule.settings:
                match = catalogue.left(rule.match, axes=word != "protect")
                if match is not None:
                    yield Rule(match, {word: rule.settings[word]}, rule.name)
                elif word == "only":  # nothing that may be cut is left
                    yield Rule(Selector.parse("*"), {"protect": True}, rule.name)


def _rule(axis: PrunableAxis, limits: WidthRange) -> Rule:
    """Return a rule for a range of counts, or for one exact count."""
    match = Selector(((Condition("axis", axis.name),),))
    if limits.least == limits.most:
        return Rule(match, {"width": limits.most}, "the schedule")
    # in a rule 1 means all units, so one unit is written as a share
    ceiling = limits.most if limits.most > 1 else (limits.most + 0.5) / axis.size
    return Rule(match, {"floor": limits.least if limits.least > 1 else 0.0, "ceiling": ceiling}, "the schedule")


__all__ = ["EXACT", "Follow", "WidthRange", "Widths", "as_it_was", "cuts", "selection"]
