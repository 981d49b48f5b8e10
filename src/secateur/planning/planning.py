"""The function `plan`, which decides which units to remove. Nothing is cut here."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from secateur.base.process import trainable
from secateur.base.text import numeral
from secateur.cost.kinds import KINDS
from secateur.cost.size_polynomials import Counts
from secateur.errors import InputError, TargetError
from secateur.graph.blocks import counts_by_axis
from secateur.graph.graph import Graph
from secateur.graph.parts import Group, PrunableAxis
from secateur.importance import Criterion, Scores, by_own_names, by_weights, is_ready, is_relative, score
from secateur.plan.choice import UNREAD
from secateur.plan.plan import Plan, with_notes
from secateur.planning.by_counts import keeping
from secateur.planning.depth import shortened, split_by_hand
from secateur.planning.reached import check_cut, held_back
from secateur.planning.selection.limits_by_axis import Wishes
from secateur.planning.selection.select import Select, SelectLike
from secateur.planning.solver.allocate import SCOPES
from secateur.planning.solver.bundles import bundled
from secateur.planning.solver.ladders import Ladder, MeasuredHarm, ladders
from secateur.planning.solver.meeting import CountsSearch
from secateur.planning.solver.step_weights import worth
from secateur.planning.stale import stale
from secateur.planning.targets import Target, parse_targets
from secateur.statistics.sums import Statistics

Drop = Mapping[str, Sequence[int] | str]


@trainable
def plan(
    graph: Graph,
    target: str | Sequence[str] | None = None,
    *,
    importance: str | Criterion | Scores = "l2",
    select: SelectLike = None,
    drop: Drop | None = None,
    scope: str = "global",
    allocation: MeasuredHarm | None = None,
    statistics: Statistics | None = None,
    seed: int = 0,
) -> Plan:
    """Choose which units stay, so that the model is at most as large as every target and as close to it as possible.

    Args:
        graph: The Graph that `secateur.trace` returned.
        target: What may remain, as a share up to 1 or a count: `"macs=0.5"`, `"params=1.76e6"`, `"memory=20e6"`
            (bytes), `"channels=0.7"`, `"depth=0.75"` (blocks), a kind of `secateur.cost.kinds`, or a list of these.
            A share of the channels holds for every width, rounded down, also for a product such as heads x head size.
        importance: A criterion, the name of one (see `secateur.importance`), or scores by name of an axis or block:
            a tensor of shape (units,) or (outer units, units) for an axis, a number for a block.
        select: Limits, as a `Select` or as rules such as `"layer4.*: keep=0.5"`. A target is for the whole model, so
            axes whose size no rule fixes compensate for the others.
        drop: Units to remove by axis name, or "all" for a whole block: `{"conv1": [2, 6], "layer1.1": "all"}`.
        scope: Where units compete. "global": in the whole network, for the greatest sum of scores. "axis": every axis
            keeps the same share. "isomorphic": within each class of axes with the same role; each keeps the same share.
        allocation: A `Sensitivity`, whose least sum of measured harm decides how much each axis loses.
        statistics: What `secateur.statistics.calibrate` returned, for a criterion that needs calibration data.
        seed: Seed of criteria that draw random numbers. The same seed produces the same plan.

    Returns:
        The Plan: the units that each axis keeps, and the cost before and after. `secateur.cut(model, plan)` applies it.

    Raises:
        TargetError: A target is malformed or cannot be reached; the message names the smallest reachable value.
        InputError: An argument is invalid, a name is unknown, rules contradict each other, or no axis is prunable.

    Example:
        >>> import secateur
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        >>> plan(secateur.trace(net, torch.zeros(1, 4)), "params=0.6").axes["0"].kept_count
        4

    Reference:
        Scope "isomorphic": Fang et al., "Isomorphic Pruning for Vision Models", ECCV 2024.
    """
    select, targets = Select.of(select), parse_targets(target)
    _check_arguments(graph, scope, allocation, seed)
    wishes = _wished(graph, targets, select, drop)
    blocks, units = split_by_hand(drop or {})
    scored = by_own_names(graph, importance) if is_ready(importance) else importance
    wishes = shortened(wishes, targets, by_hand=blocks, importance=scored, statistics=statistics, seed=seed)
    graph = wishes.graph
    _check_known(graph, targets)
    scores, rungs = _by_hand(wishes, units, score(graph, scored, statistics=statistics, seed=seed), scope, allocation)
    counts = _counts(wishes, units, targets, rungs, _step_weights(graph, importance, scope, allocation), scope)
    if select == Select():  # with limits, an uncut model may be what was requested
        check_cut(wishes, targets, counts)
    chosen = {**_chosen(graph, scored, statistics), **_spread(scope, allocation), "seed": str(seed)}
    notes = {**chosen, **_way(graph), **held_back(wishes, targets, counts), **_stale(graph, counts)}
    return with_notes(keeping(graph, counts, scores, tuple(map(str, targets))), **notes)


def _wished(graph: Graph, targets: Sequence[Target], select: Select, drop: Drop | None) -> Wishes:
    """Return the limits of a selection on a graph. Raises if they contradict each other or there is nothing to do."""
    _check_targets(graph, targets)
    wishes = select.on(graph)
    wishes.check()
    if not targets and not drop and not wishes.act:
        raise InputError("nothing to do: give a target such as 'macs=0.5', drop={...} or Select(widths={...})")
    return wishes


def _counts(
    wishes: Wishes,
    units: Mapping[str, Sequence[int]],
    targets: Sequence[Target],
    rungs: Sequence[Ladder],
    weights: Sequence[int],
    scope: str,
) -> Counts:
    """Return how many units of each axis stay."""
    asked = _as_asked(wishes.graph, units, targets, rungs)
    search = CountsSearch(wishes.conditions, wishes.floors, targets, scope, asked)
    return search.counts(bundled(wishes.graph, rungs, wishes, weights))


def _step_weights(
    graph: Graph, importance: str | Criterion | Scores, scope: str, allocation: MeasuredHarm | None
) -> list[int]:
    """Return the weight of a step of each group; measured harm is already per step."""
    if allocation is not None:
        return [1] * len(graph.groups)
    return worth(
        graph, relative=scope != "isomorphic" and is_relative(importance)
    )  # the share of a class is counted in units


def _chosen(graph: Graph, importance: str | Criterion | Scores, statistics: Statistics | None) -> dict[str, str]:
    """Return notes on the criterion, and on the axes scored by weights because the data say nothing about them."""
    named = {"importance": importance if isinstance(importance, str) else "given by the user"}
    unread = by_weights(graph, importance, statistics)
    return {**named, "by_weights": ", ".join(unread)} if unread else named


def _spread(scope: str, allocation: MeasuredHarm | None) -> dict[str, str]:
    """Return a note on how the cut was distributed over the axes."""
    return {"scope": scope} if allocation is None else {"allocation": "measured"}


def _stale(graph: Graph, counts: Counts) -> dict[str, str]:
    """Return a note on the integers that may be out of date after the cut."""
    found = [f"{one} ({graph.sizes.values[one]})" for one in stale(graph, counts_by_axis(graph, counts))]
    return {UNREAD: ", ".join(found)} if found else {}


def _way(graph: Graph) -> dict[str, str]:
    """Return a note on how the graph was traced, so that it can be traced again the same way."""
    return {"uniform": "yes"} if graph.run.source.uniform else {}


def _check_arguments(graph: Any, scope: str, allocation: Any, seed: Any) -> None:
    if not isinstance(graph, Graph):
        kind = type(graph).__name__
        raise InputError(f"graph is a {kind}, not a Graph\nmake one first: secateur.trace(model, example_inputs)")
    if not isinstance(seed, int):
        raise InputError(f"seed={seed!r} is not a whole number\nwrite e.g. seed=0")
    if scope not in SCOPES:
        raise InputError(f"scope={scope!r} is not a scope\nuse one of {', '.join(map(repr, SCOPES))}")
    if not graph.axes and not any(block.why is None for block in graph.blocks):
        reasons = "\n".join(f"  {f.name}[{f.dim}]: {f.reason}" for f in graph.frozen[:5])
        raise InputError(
            f"this model has no prunable axis\n{reasons}\nprint(graph) lists everything that is frozen and why"
        )
    _check_allocation(allocation, scope)


def _check_targets(graph: Graph, targets: Sequence[Target]) -> None:
    """Raise `TargetError` for a count that is more than the model has."""
    for target in targets:
        total = graph.totals[target.kind]
        if total is not None and not target.is_share and target.value > total:
            raise TargetError(
                f"target {target}: the model has only {numeral(total)} {target.kind}\n"
                f"give a share of up to 1, as in '{target.kind}=0.5', or a smaller count"
            )


def _check_known(graph: Graph, targets: Sequence[Target]) -> None:
    """Raise `TargetError` for an unknown cost. Memory is known only for the network as traced, with all its blocks."""
    for target in targets:
        kind, known = target.kind, graph.cost_of(target.kind) is not None and graph.totals[target.kind] is not None
        if KINDS[kind].cost is None or known:
            continue
        if removed := graph.reduced.removed:
            raise TargetError(
                f"target {target}: {kind} is not predicted where whole blocks go ({next(iter(removed))!r})\n"
                "drop the blocks first, then trace and plan what is left"
            )
        raise TargetError(f"target {target}: how much {kind} this model has is not known\ngive another target")


def _check_allocation(allocation: Any, scope: str) -> None:
    if allocation is None:
        return
    if not isinstance(allocation, MeasuredHarm):
        raise InputError(
            f"allocation={allocation!r} is not a Sensitivity\n"
            "measure one with secateur.sensitivity(graph, evaluate), or read one with Sensitivity.read(path)"
        )
    if scope != "global":
        each = "axis" if scope == "axis" else "class of axes"
        raise InputError(
            f"scope={scope!r} takes the same share of each {each}, but allocation= decides by measured harm\n"
            "leave out one of the two"
        )


def _by_hand(
    wishes: Wishes,
    drop: Mapping[str, Sequence[int]],
    scores: dict[str, torch.Tensor],
    scope: str,
    allocation: MeasuredHarm | None,
) -> tuple[dict[str, torch.Tensor], list[Ladder]]:
    """Return scores in which dropped units are lowest, and ladders that start at the units left in their groups."""
    graph = wishes.graph
    rungs = ladders(graph, scores, wishes, scope, allocation)
    if not drop:
        return scores, rungs
    units: dict[str, list[int]] = {}
    for name, more in drop.items():
        units.setdefault(graph.axis(name).name, []).extend(_numbers(name, more))
    scores = {name: value.clone() for name, value in scores.items()}
    levels: dict[int, int] = {}
    for name, asked in units.items():
        axis = graph.axis(name)
        wanted = _checked_units(axis, name, asked)
        scores[name][..., wanted] = -math.inf
        level = _level_by_hand(graph.groups[axis.group], axis, len(wanted))
        if levels.setdefault(axis.group, level) != level:
            raise InputError(
                f"drop removes {len(wanted)} units of {name!r}, but another share of an axis that it is tied to"
            )
    return scores, _lowered(graph, wishes, levels, rungs)


def _level_by_hand(group: Group, axis: PrunableAxis, count: int) -> int:
    step = axis.size // group.steps
    level, rest = divmod(axis.size - count, step)
    if rest:
        tied = ", ".join(a.name for a in group.axes if a is not axis)
        raise InputError(f"drop removes {count} units of {axis.name!r}, but with {tied} it moves in steps of {step}")
    return level


def _lowered(graph: Graph, wishes: Wishes, levels: Mapping[int, int], rungs: Sequence[Ladder]) -> list[Ladder]:
    """Return ladders that start at what `drop` leaves. `drop` overrides floors and alignment, but not fixed sizes."""
    rungs = list(rungs)
    for g, level in levels.items():
        axis, ladder, size = graph.groups[g].axes[0], rungs[g], wishes.sizes.get(g)
        top, unit = ladder.levels[0], axis.size // graph.groups[g].steps
        if g in wishes.held and level < top:
            raise InputError(f"drop removes units of {axis.name!r}, which {wishes.held[g]} keeps as it is")
        if size is not None and level < top:
            asked = f"{size[1].by} asks for {top * unit}"
            raise InputError(f"drop leaves {level * unit} units of {axis.name!r}, but {asked}")
        if size is None and level < top:
            lower = [j for j, old in enumerate(ladder.levels) if old < level]
            below, prices = (ladder.levels[j] for j in lower), (ladder.price[j - 1] for j in lower)
            rungs[g] = Ladder((level, *below), tuple(prices))
    return rungs


def _as_asked(graph: Graph, drop: Drop, targets: Sequence[Target], rungs: Sequence[Ladder]) -> frozenset[int]:
    """Return the groups that must stay on their highest rung: without a target, all except those with a ceiling."""
    if targets:
        return frozenset()
    whole = (g for g, group in enumerate(graph.groups) if rungs[g].levels[0] == group.steps)
    return frozenset((*whole, *(graph.axis(name).group for name in drop)))


def _numbers(name: str, units: Any) -> list[int]:
    """Return unit numbers from a sequence, array or tensor of whole numbers. Raises `InputError` for a mask."""
    try:
        listed = list(units.tolist() if hasattr(units, "tolist") else units)
        if any(isinstance(unit, bool) for unit in listed):
            raise TypeError("a mask")
        return [operator.index(unit) for unit in listed]
    except TypeError:
        raise InputError(
            f"drop={{{name!r}: {units!r}}}: the value is not a list of units\n"
            f"give the numbers of the units, as in drop={{{name!r}: [2, 6, 9]}}"
        ) from None


def _checked_units(axis: PrunableAxis, name: str, units: Sequence[int]) -> list[int]:
    wanted = sorted(set(units))
    bad = [u for u in wanted if not 0 <= u < axis.size]
    if bad:
        raise InputError(f"drop names unit {bad[0]} of {name!r}, whose {axis.size} units are 0 to {axis.size - 1}")
    if (axis.size - len(wanted)) % axis.multiple and wanted:
        raise InputError(
            f"drop leaves {axis.size - len(wanted)} of {axis.size} units of {name!r}; a kernel requires a multiple of "
            f"{axis.multiple} there"
        )
    if axis.size - len(wanted) < axis.least:
        raise InputError(
            f"drop leaves {axis.size - len(wanted)} of {axis.size} units of {name!r}; at least {axis.least} must stay"
        )
    return wanted


__all__ = ["plan"]
