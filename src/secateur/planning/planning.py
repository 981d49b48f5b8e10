"""`plan`: decide what to cut. Nothing is cut here."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from secateur.anatomy.counting import renumbering
from secateur.base.process import trainable
from secateur.cost.cost import Cost
from secateur.cost.size_polynomials import Counts
from secateur.errors import InputError, TargetError
from secateur.graph.blocks import counts_by_axis
from secateur.graph.graph import Graph
from secateur.graph.parts import Group, PrunableAxis
from secateur.importance import Criterion, Scores, by_own_names, by_weights, is_ready, is_relative, score
from secateur.plan.choice import UNREAD
from secateur.plan.codes import encoded
from secateur.plan.parts import AttributeChange, AxisPlan, Code, Renorm, Scale, Totals
from secateur.plan.plan import Plan, with_notes
from secateur.planning.depth import shortened, split_by_hand
from secateur.planning.reached import check_cut, held_back
from secateur.planning.selection.limits_by_axis import Wishes
from secateur.planning.selection.select import Select, SelectLike
from secateur.planning.solver.allocate import SCOPES
from secateur.planning.solver.bundles import bundled
from secateur.planning.solver.ladders import Ladder, MeasuredHarm, kept_units, ladders
from secateur.planning.solver.meeting import CountsSearch
from secateur.planning.solver.step_weights import worth
from secateur.planning.stale import stale
from secateur.planning.targets import Target, parse_targets
from secateur.statistics.sums import Statistics
from secateur.terms import Axis, axes, find, size

KEEPING = "drop other blocks, or leave uniform out and save with secateur.save(model, 'small.safetensors')"
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
    """Choose which units stay, so that every target is met from below as closely as the steps allow.

    target: `"macs=0.5"`, `"params=1.76e6"`, `"memory=20e6"` (bytes, see `secateur.cost.memory`), `"channels=0.7"`,
    `"depth=0.75"` (blocks) or a list of them; always what remains. Channels are shares of every width, rounded down;
    axes that multiply to one, as heads and head dimensions do, make it up between them. importance: see
    `secateur.importance`; ready scores may score blocks too, by name. select: limits, as a `Select` or as rules such
    as `"layer4.*: keep=0.5"`; a target holds for the whole model, and axes whose size no rule fixes make up for the
    others. drop: units to cut by hand, by axis name, or "all" of a block: `{"conv1": [2, 6], "layer1.1": "all"}`.
    scope: "global" keeps the greatest sum of scores in the whole network that meets all targets, "axis" the same
    share of each axis, "isomorphic" the same share of each class of axes that play the same part, the highest scores
    of the class (Fang et al., ECCV 2024; see `planning.solver.isomorphic`). allocation: what `secateur.sensitivity`
    measured; importance orders the units within an axis, and the least sum of measured harm decides how much each
    axis loses. statistics: what `secateur.statistics.calibrate` collected, for an importance that needs it. The same
    seed gives the same plan.

    Raises `TargetError` for a target that is malformed or out of reach (with the smallest value that is not), and
    `InputError` for unknown names or a model without prunable axes.

    >>> import secateur
    >>> graph = secateur.trace(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)), torch.zeros(1, 4))
    >>> plan(graph, "params=0.6").axes["0"].kept_count
    4
    """
    if not isinstance(graph, Graph):
        kind = type(graph).__name__
        raise InputError(f"graph is a {kind}; make one first: secateur.trace(model, example_inputs)")
    if not isinstance(seed, int):
        raise InputError(f"seed={seed!r} is no whole number")
    select = Select.of(select)
    targets = parse_targets(target)
    _check_arguments(graph, targets, scope)
    _check_allocation(allocation, scope)
    wishes = select.on(graph)
    wishes.check()
    if not targets and not drop and not wishes.act:
        raise InputError("nothing to do: give a target such as 'macs=0.5', drop={...} or Select(widths={...})")
    blocks, drop = split_by_hand(drop or {})
    scored = by_own_names(graph, importance) if is_ready(importance) else importance
    wishes = shortened(wishes, targets, by_hand=blocks, importance=scored, statistics=statistics, seed=seed)
    graph = wishes.graph
    _check_memory(graph, targets)
    scores = score(graph, scored, statistics=statistics, seed=seed)
    rungs = ladders(graph, scores, wishes, scope, allocation)
    if drop:
        scores, rungs = _by_hand(graph, drop, wishes, scores, rungs)
    relative = scope != "isomorphic" and is_relative(importance)  # shares of a class are of its units
    counted = worth(graph, relative=relative) if allocation is None else [1] * len(graph.groups)
    bundles = bundled(graph, rungs, wishes, counted)
    asked = _as_asked(graph, drop, targets, rungs)
    counts = CountsSearch(wishes.conditions, wishes.floors, targets, scope, asked).counts(bundles)
    if select == Select():  # else it may be what was asked for
        check_cut(wishes, targets, counts)
    kept = {a.name: kept_units(a, int(n), scores[a.name]) for a, n in zip(graph.axes, counts, strict=True)}
    made = build_plan(graph, kept, counts, tuple(map(str, targets)))
    chosen = _chosen(graph, scored, statistics)
    held = {**held_back(wishes, targets, counts), **_stale(graph, counts)}
    return with_notes(made, **chosen, **_spread(scope, allocation), seed=str(seed), **_way(graph), **held)


def _chosen(graph: Graph, importance: str | Criterion | Scores, statistics: Statistics | None) -> dict[str, str]:
    """What chose the units, and where weights stood in for data that tell nothing of an axis."""
    named = {"importance": importance if isinstance(importance, str) else "given by the user"}
    unread = by_weights(graph, importance, statistics)
    return {**named, "by_weights": ", ".join(unread)} if unread else named


def _spread(scope: str, allocation: MeasuredHarm | None) -> dict[str, str]:
    """How the cut was spread over the axes."""
    return {"scope": scope} if allocation is None else {"allocation": "measured"}


def _stale(graph: Graph, counts: Counts) -> dict[str, str]:
    """Integers that may be out of date, for whoever reads the plan."""
    found = [f"{one} ({graph.attribute_values[one]})" for one in stale(graph, counts_by_axis(graph, counts))]
    return {UNREAD: ", ".join(found)} if found else {}


def _way(graph: Graph) -> dict[str, str]:
    """How the graph was made, for whoever traces the model again."""
    return {"uniform": "yes"} if graph.source.uniform else {}


def _check_arguments(graph: Graph, targets: Sequence[Target], scope: str) -> None:
    if scope not in SCOPES:
        raise InputError(f"scope={scope!r}; one of {', '.join(map(repr, SCOPES))}")
    if not graph.axes and not any(block.why is None for block in graph.blocks):
        reasons = "\n".join(f"  {f.name}[{f.dim}]: {f.reason}" for f in graph.frozen[:5])
        raise InputError(
            f"this model has no prunable axis\n{reasons}\nprint(graph) lists everything that is frozen and why"
        )
    kinds = {kind: getattr(graph.totals, kind) for kind in Cost.KINDS}
    for target in targets:
        if target.kind in kinds and target.value > 1 and target.value > kinds[target.kind]:
            raise TargetError(
                f"target {target}: the model has only {kinds[target.kind]:,} {target.kind}\n"
                f"give a share of up to 1, as in '{target.kind}=0.5', or a smaller count"
            )


def _check_memory(graph: Graph, targets: Sequence[Target]) -> None:
    """What a call holds is known of the network as it was traced, not of what is left without some blocks."""
    for target in targets:
        if target.kind == "memory" and graph.removed:
            raise TargetError(
                f"target {target}: memory is not predicted where whole blocks go ({next(iter(graph.removed))!r})\n"
                "drop the blocks first, then trace and plan what is left"
            )


def _check_allocation(allocation: Any, scope: str) -> None:
    if allocation is None:
        return
    if not isinstance(allocation, MeasuredHarm):
        raise InputError(
            f"allocation={allocation!r} is none; measure one with secateur.sensitivity(graph, evaluate), "
            "or read one with Sensitivity.read(path)"
        )
    if scope != "global":
        each = "axis" if scope == "axis" else "class of axes"
        raise InputError(
            f"scope={scope!r} takes the same share of each {each}, allocation= what was measured; leave out one"
        )


def _by_hand(
    graph: Graph,
    drop: Mapping[str, Sequence[int]],
    wishes: Wishes,
    scores: dict[str, torch.Tensor],
    rungs: list[Ladder],
) -> tuple[dict[str, torch.Tensor], list[Ladder]]:
    """Dropped units score below everything, and their groups start at what is left of them."""
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
            raise InputError(f"drop takes {len(wanted)} units of {name!r}, but another share of an axis it is tied to")
    return scores, _lowered(graph, wishes, levels, rungs)


def _level_by_hand(group: Group, axis: PrunableAxis, count: int) -> int:
    step = axis.size // group.steps
    level, rest = divmod(axis.size - count, step)
    if rest:
        tied = ", ".join(a.name for a in group.axes if a is not axis)
        raise InputError(f"drop takes {count} units of {axis.name!r}, but with {tied} it moves in steps of {step}")
    return level


def _lowered(graph: Graph, wishes: Wishes, levels: Mapping[int, int], rungs: Sequence[Ladder]) -> list[Ladder]:
    """Ladders whose top is what hands left of their groups. Hands go before floors and alignment, not before sizes."""
    rungs = list(rungs)
    for g, level in levels.items():
        axis, ladder, size = graph.groups[g].axes[0], rungs[g], wishes.sizes.get(g)
        top, unit = ladder.levels[0], axis.size // graph.groups[g].steps
        if g in wishes.held and level < top:
            raise InputError(f"drop takes units of {axis.name!r}, which {wishes.held[g]} keeps as it is")
        if size is not None and level < top:
            asked = f"{size[1].by} asks for {top * unit}"
            raise InputError(f"drop leaves less of {axis.name!r} than asked for: it leaves {level * unit}, {asked}")
        if size is None and level < top:
            lower = [j for j, old in enumerate(ladder.levels) if old < level]
            below, prices = (ladder.levels[j] for j in lower), (ladder.price[j - 1] for j in lower)
            rungs[g] = Ladder((level, *below), tuple(prices))
    return rungs


def _as_asked(graph: Graph, drop: Drop, targets: Sequence[Target], rungs: Sequence[Ladder]) -> frozenset[int]:
    """Groups that lose what was asked for, or nothing: without a target, all but those with a ceiling."""
    if targets:
        return frozenset()
    whole = (g for g, group in enumerate(graph.groups) if rungs[g].levels[0] == group.steps)
    return frozenset((*whole, *(graph.axis(name).group for name in drop)))


def _numbers(name: str, units: Any) -> list[int]:
    """Numbers of units from any sequence, array or tensor of whole numbers; a mask is none."""
    try:
        listed = list(units.tolist() if hasattr(units, "tolist") else units)
        if any(isinstance(unit, bool) for unit in listed):
            raise TypeError("a mask")
        return [operator.index(unit) for unit in listed]
    except TypeError:
        raise InputError(
            f"drop gives {name!r} {units!r}; give the numbers of its units, as in drop={{{name!r}: [2, 6, 9]}}"
        ) from None


def _checked_units(axis: PrunableAxis, name: str, units: Sequence[int]) -> list[int]:
    wanted = sorted(set(units))
    bad = [u for u in wanted if not 0 <= u < axis.size]
    if bad:
        raise InputError(f"drop names unit {bad[0]} of {name!r}, which has {axis.size}: 0 to {axis.size - 1}")
    if (axis.size - len(wanted)) % axis.multiple and wanted:
        raise InputError(
            f"drop leaves {axis.size - len(wanted)} of {axis.size} units of {name!r}; a kernel asks for a multiple of "
            f"{axis.multiple} there"
        )
    if axis.size - len(wanted) < axis.least:
        raise InputError(
            f"drop leaves {axis.size - len(wanted)} of {axis.size} units of {name!r}; at least {axis.least} must stay"
        )
    return wanted


# --- the Plan ---


def build_plan(graph: Graph, kept: Mapping[str, tuple], counts: Counts, target: tuple[str, ...] = ()) -> Plan:  # type: ignore[type-arg]
    """The Plan that keeps these units of each axis."""
    by_axis = counts_by_axis(graph, counts)
    names: dict[Axis, str] = {axis.term: axis.name for axis in graph.axes}
    for axis in graph.axes:
        for outer in axes(axis.outer) if axis.outer is not None else ():
            names.setdefault(outer, f"fixed{outer.serial - min(a.term.serial for a in graph.axes)}")
    cost, closes = graph.cost, graph.source.uniform and bool(graph.removed)

    def name_of(axis: Axis) -> str | int:
        return names.get(axis, axis.n)

    plans = {n: AxisPlan(a.n, None) for a, n in names.items() if a not in by_axis}
    for axis in graph.axes:
        outer = encoded(find(axis.outer), name_of) if axis.outer is not None else None
        plans[axis.name] = AxisPlan(axis.size, kept[axis.name], outer)
    return Plan(
        axes=plans,
        sites=_sites(graph, by_axis, name_of),
        attributes=_attributes(graph, by_axis),
        scales=_scales(graph, by_axis),
        renorms=_renorms(graph, by_axis),
        before=graph.totals,
        after=Totals(cost.params(counts), cost.macs(counts), None if graph.removed else cost.memory(counts)),
        target=target,
        caches=graph.caches,
        removed=graph.removed,
        renumbered=renumbering(graph.model, graph.removed, graph.model.config, KEEPING) if closes else None,
    )


def _sites(graph: Graph, counts: Mapping[Axis, int], name_of) -> dict[str, tuple[Code, ...]]:  # type: ignore[no-untyped-def]
    """Every site that holds a prunable axis, by its terms."""
    out = {}
    for name, site in graph.sites.items():
        dims = [find(dim) for dim in site.dims]
        if any(axis in counts for dim in dims for axis in axes(dim)):
            out[name] = tuple(encoded(dim, name_of) for dim in dims)
    return out


def _attributes(graph: Graph, counts: Mapping[Axis, int]) -> tuple[AttributeChange, ...]:
    changes = []
    for attribute, ratio in graph.attributes.items():
        old, new = graph.attribute_values.get(attribute), ratio.at(lambda axis: counts.get(axis, axis.n))
        if old is not None and new != old:
            changes.append(AttributeChange(attribute.module, attribute.name, attribute.at, old, new))
    return tuple(changes)


def _renorms(graph: Graph, counts: Mapping[Axis, int]) -> tuple[Renorm, ...]:
    """Those whose slices lose something."""

    def shorter(renorm: Renorm) -> bool:
        dims = (dim for i, dim in enumerate(graph.sites[renorm.of].dims) if i != renorm.dim)
        return any(size(dim, counts) < find(dim).n for dim in dims)

    return tuple(filter(shorter, graph.renorms))


def _scales(graph: Graph, counts: Mapping[Axis, int]) -> tuple[Scale, ...]:
    scales = []
    for fold in graph.folds:
        new = size(fold.term, counts)
        old = find(fold.term).n
        if new != old:
            scales.append(Scale(fold.name, fold.dim, fold.rows, (new / old) ** fold.power))
    return tuple(scales)


__all__ = ["build_plan", "plan"]
