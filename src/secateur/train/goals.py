"""The goals of a loop at each step, in counts of the original model.

The original is the model before its first cut, also for a model that was cut before the loop: `macs=0.5` means half of
the MACs of the dense model. The plans that cut a model record what the original had.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secateur.apply.ready import plans_of
from secateur.base.text import numeral, share
from secateur.cost.kinds import CHANNELS, DEPTH, KINDS, Number
from secateur.errors import InputError, PruningError, TargetError
from secateur.graph.graph import Graph
from secateur.plan.compose import same_axes
from secateur.plan.plan import Plan
from secateur.planning import plan
from secateur.planning.building import build_plan
from secateur.planning.selection.limits_by_axis import Wishes
from secateur.planning.selection.select import Select
from secateur.planning.targets import Target, parse_targets, target_at
from secateur.train.widths import EXACT, Follow, Widths, as_it_was, cuts, selection


@dataclass(frozen=True, slots=True)
class StageRequest:
    """The targets and the selection that a step passes to `plan`. `cuts`: whether the selection alone removes units."""

    targets: tuple[str, ...]
    select: Select
    cuts: bool

    @property
    def nothing(self) -> bool:
        """Whether the model meets the request already."""
        return not self.targets and not self.cuts


class Goals:
    """Targets and sizes that follow a schedule of `steps` steps. Raises `TargetError` if they cannot be reached."""

    def __init__(self, graph: Graph, target: str | Sequence[str] | None, select: Select, follow: Follow, steps: int):
        self.steps = steps
        self._select = select
        self._targets = parse_targets(target)
        self._totals = _totals(graph, [target.kind for target in self._targets])
        ends = [self._end(target) for target in self._targets]
        self._ways = [(end, follow(end)) for end in ends]
        shares = [target.value for target in self._targets if target.kind == CHANNELS]
        wishes = _wishes(graph, select)
        if not (self._targets or wishes.act or plans_of(graph.model)):
            raise InputError("nothing to do: give a target such as 'macs=0.5', or select= with sizes: '0: keep=0.5'")
        self._widths = Widths(wishes.graph, wishes, min(shares, default=1.0), follow)

    def _end(self, target: Target) -> float:
        """Return the share of the original that a target leaves."""
        if target.is_share:
            return target.value
        return min(target.value / max(self._totals[target.kind], 1), 1.0)

    def texts(self, step: int) -> tuple[str, ...]:
        """Return the targets of a step as shares of the original; at the end of the schedule, as they were passed."""
        pairs = zip(self._targets, self._ways, strict=True)
        return tuple(
            str(t) if way(step) <= end + EXACT else target_at(t.kind, way(step), self._totals.get(t.kind))
            for t, (end, way) in pairs
        )

    def arrives(self) -> bool:
        """Return whether the last step reaches all targets."""
        return all(way(self.steps) <= end + EXACT for end, way in self._ways)

    def limits(self, step: int) -> dict[str, Number]:
        """Return the most that may remain after a step, by kind of target."""
        limits: dict[str, Number] = {}
        for target, (end, way) in zip(self._targets, self._ways, strict=True):
            if target.kind != CHANNELS:
                total, now = self._totals[target.kind], way(step)
                limit = target.limit(total) if now <= end + EXACT else _most(now * total, total)
                limits[target.kind] = min(limits.get(target.kind, limit), limit)
        return limits

    def asked(self, graph: Graph, names: Mapping[str, str], step: int) -> StageRequest:
        """Return what a step requests for a graph. names: from its axes to their original names."""
        ranges, limits = self._widths.at(step), self.limits(step)
        here = {name: ranges[old] for name, old in names.items() if old in ranges}
        have = counts(graph, limits)
        targets = [_text(kind, limit, have[kind]) for kind, limit in limits.items() if have[kind] > limit]
        return StageRequest(tuple(targets), selection(graph, self._select, here), cuts(graph, here))

    def check(self, graph: Graph, *, fresh: bool) -> None:
        """Raise `TargetError` if the end is out of reach, or, for a fresh start, if nothing is left to do."""
        asked = self.asked(graph, own_names(graph), self.steps)
        if fresh and asked.nothing and self.arrives():
            raise TargetError(self._met(graph))
        if asked.targets and self.arrives():  # in the user's own words, if they mean the same for this model
            own = [str(target) for target in self._targets if target.kind != CHANNELS]
            plan(graph, asked.targets if plans_of(graph.model) else own, importance={}, select=asked.select)

    def _met(self, graph: Graph) -> str:
        limits = self.limits(self.steps)
        have = counts(graph, limits)
        lines = [f"the target is already met: {', '.join(map(str, self._targets)) or 'the sizes of select'}"]
        for kind, limit in limits.items():
            of = self._totals[kind]
            left = f"{share(have[kind] / of)} of the original {numeral(of)}"
            lines.append(f"  {kind}: the model has {numeral(have[kind])} ({left})")
            lines.append(f"  {' ' * len(kind)}  the target allows {numeral(limit)}")
        return "\n".join(
            [*lines, "ask for less than the model has; targets are shares of the model before its first cut"]
        )


def counts(graph: Graph, kinds: Mapping[str, object] | Sequence[str]) -> dict[str, Number]:
    """Return the counts of a graph, by kind of target, as far as they are known."""
    found: dict[str, Number] = {}
    for kind in kinds:
        value = graph.total_of(kind) if KINDS[kind].cost is None else graph.totals[kind]
        if value is not None:
            found[kind] = value
    return found


def _most(limit: float, total: Number) -> Number:
    """Return a limit, rounded down to a whole number if its total is one."""
    return limit if isinstance(total, float) else math.floor(limit + EXACT)


def _text(kind: str, limit: Number, have: Number) -> str:
    """Write a target as a count; 1 and 0 as a share, because a target of 1 means all."""
    return f"{kind}={limit}" if limit > 1 or not KINDS[kind].shares else f"{kind}={(limit + 0.5) / have!r}"


def _totals(graph: Graph, kinds: Sequence[str]) -> dict[str, Number]:
    """Return the counts of the original, by kind of target."""
    counted = [kind for kind in kinds if kind != CHANNELS]
    found: dict[str, Any] = {**counts(graph, counted)}
    plans = plans_of(graph.model)
    if plans:
        _check_same_call(graph, plans[-1], counted)
        gone = sum(len(plan.removed) for plan in plans)
        found = {kind: have + gone if kind == DEPTH else plans[0].before[kind] for kind, have in found.items()}
    for kind in counted:
        if found.get(kind) is None:
            raise TargetError(f"target {kind}: its value for the original model is not known\ngive another target")
    return found


def _check_same_call(graph: Graph, last: Plan, kinds: Sequence[str]) -> None:
    """Raise `TargetError` if costs of a call (MACs, memory) were counted on inputs of another size at the last cut."""
    have, then = graph.totals.macs, last.after.macs
    if have != then and any(KINDS[kind].of_call for kind in kinds):
        raise TargetError(
            "the model was cut before, on inputs of another size, so its original MACs on these inputs are not known\n"
            f"  MACs on those inputs   {then:,}\n  MACs on these inputs   {have:,}\n"
            "give the example_inputs of that cut, or a target in params or channels"
        )


def _wishes(graph: Graph, select: Select) -> Wishes:
    """Apply a selection to the graph as it was before the first cut."""
    original = as_it_was(graph, _sizes(graph))
    wishes = select.on(original)
    if plans_of(graph.model):  # a rule may be about axes that have their smallest size by now
        wishes = wishes.about(original)
    wishes.check()
    return wishes


def _sizes(graph: Graph) -> dict[str, int]:
    """Return the number of units that each axis had before the first cut."""
    sizes, names = {axis.name: axis.size for axis in graph.axes}, own_names(graph)
    later = _everything(graph)
    for made in reversed(plans_of(graph.model)):
        renamed, later = _same(made, later), made
        names = {name: renamed.get(old, old) for name, old in names.items()}
        sizes |= {name: made.axes[old].size for name, old in names.items() if old in made.axes}
    return sizes


def own_names(graph: Graph) -> dict[str, str]:
    """Map the name of each axis to itself."""
    return {axis.name: axis.name for axis in graph.axes}


def names_after(names: Mapping[str, str], plan: Plan, graph: Graph) -> dict[str, str]:
    """Map the axes of a graph to their original names; `names` does so for the plan that led to the graph."""
    renamed = _same(plan, _everything(graph))
    return {a.name: names.get(renamed.get(a.name, a.name), a.name) for a in graph.axes}


def _same(first: Plan, second: Plan) -> dict[str, str]:
    try:
        return same_axes(first, second)
    except PruningError:  # then axes are matched by name
        return {}


def _everything(graph: Graph) -> Plan:
    """Return the plan that keeps all units: it records how sites are made of axes."""
    kept: Any = {axis.name: None for axis in graph.axes}  # None: all units
    return build_plan(graph, kept, graph.cost.full)


__all__ = ["Goals", "StageRequest", "counts", "names_after", "own_names"]
