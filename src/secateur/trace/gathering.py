"""Builds a Graph from a recorded run: solves the sizes, and names and groups the prunable axes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from secateur.base.names import plain_of
from secateur.cost.parts import MacsTerm, Storage
from secateur.graph.consumers import Consumer
from secateur.graph.facts import reason_of, stuck_in
from secateur.graph.graph import Graph
from secateur.graph.parts import ALONE, SIZE_ALONE, Frozen, GraphSite, Group, PrunableAxis, SiteUse, TraceSource
from secateur.graph.sections import Diagnosis, Effects, RunRecord, Sizes
from secateur.graph.sizes import SizeEquation
from secateur.terms import EXPERT, Axis, axes, find, freeze, merged, settle
from secateur.trace.attention_scaling import place_folds
from secateur.trace.forbidding import forbidden
from secateur.trace.recorder import Recorder
from secateur.trace.solve import Solution, Solver
from secateur.trace.staging import StandIns
from secateur.trace.storage_lifetimes import LiveStorage
from secateur.trace.tracked_ints import Ledger
from secateur.trace.unread import follow


def build(model: nn.Module, stage: StandIns, recorder: Recorder, unreached: list[str], source: TraceSource) -> Graph:
    """Solve the sizes of a recorded run, and return the Graph."""
    sites = {name: GraphSite(name, s.kind, tuple(find(d) for d in s.dims), s.each) for name, s in stage.sites.items()}
    measured = [name for name in unreached if name in recorder.measured]
    unreached = [name for name in unreached if name not in recorder.measured]
    _settle_sites(sites, {**dict.fromkeys(measured, SIZE_ALONE), **{n: f"no call reached {n}" for n in unreached}})
    folds = place_folds(recorder.queries, recorder.used)
    candidates = _candidates(sites)
    solver = _solved(candidates, stage, recorder.ledger, source)
    solution = solver.solution
    unread = follow(solver, stage)
    _mark(solution)
    live = [axis for axis in candidates if _prunable(axis, solution)]
    for tie, where in forbidden(live, solution, stage.attributes):
        for axis in tie.members:
            freeze(axis, f"{where} allows no smaller count")
    live = [axis for axis in live if axis.frozen is None]
    named = _named(live, sites, recorder, solution)
    return Graph(
        axes=tuple(named),
        groups=_groups(named),
        sites=sites,
        macs=_merged(recorder.macs, set(live)),
        model=model,
        storages=_storages(recorder.life.held),
        readers=_readers(recorder, sites),
        aliases=dict(stage.aliases),
        sizes=Sizes(solution.attributes, stage.attributes, unread, tuple(solution.guards)),
        effects=Effects(tuple(stage.caches), tuple(folds), tuple(recorder.renorms.values())),
        diagnosis=Diagnosis(
            frozen=_frozen(sites, set(live)),
            unreached=tuple(unreached),
            unknown=dict(Counter(recorder.unknown)),
            samples=dict(recorder.samples),
            untrained=recorder.untrained,
        ),
        run=RunRecord(source, tuple(recorder.path), recorder.readings, recorder.numbered),
    )


def _solved(candidates: Sequence[Axis], stage: StandIns, ledger: Ledger, source: TraceSource) -> Solver:
    """Solve the sizes. Numbers of a config that would be quotients of counts are treated as constant ratios."""
    solver = Solver(candidates, stage.attributes)
    solution = solver.run(ledger)
    quotients = [a for a, ratio in solution.attributes.items() if solver.reduced(ratio).under.variables]
    if not source.uniform or not quotients:
        return solver
    pinned = [SizeEquation(a, stage.attributes[a], f"{a} is a ratio of sizes") for a in quotients]
    again = Solver(candidates, stage.attributes)
    again.run(replace(ledger, equations=[*pinned, *ledger.equations]))
    return again


def _readers(recorder: Recorder, sites: Mapping[str, GraphSite]) -> dict[str, Consumer]:
    """Return the consumers whose whole weight sums over channels."""
    found = {}
    for name, reader in recorder.readers.items():
        channels, site = find(reader.channels), sites.get(name)
        if site is not None and site.kind == "parameter" and site.shape[reader.dim] * reader.groups == channels.n:
            found[name] = replace(reader, channels=merged(channels))
    return found


def _settle_sites(sites: Mapping[str, GraphSite], unread: Mapping[str, str]) -> None:
    """Settle parameters, which are sliced by dimension: a `PerUnit` needs its outer axis in its own dimension.

    unread: the reasons for which parameters are frozen whose values no call read.
    """
    for name, site in sites.items():
        for dim in site.dims:
            settle([merged(dim)])
            if name in unread:
                freeze(dim, unread[name])


def _candidates(sites: Mapping[str, GraphSite]) -> list[Axis]:
    found: dict[Axis, None] = {}
    for site in sites.values():
        if site.kind == "parameter":
            for dim in site.dims:
                found.update((axis, None) for axis in axes(dim))
    return [axis for axis in found if axis.frozen is None and not _unsafe(axis) and axis.n > axis.least]


def _unsafe(axis: Axis) -> bool:
    """Return whether an axis may not be pruned. Experts may: a softmax over them only means one choice less."""
    return axis.unsafe and axis.kind != EXPERT


def _mark(solution: Solution) -> None:
    for axis, why in solution.unsafe.items():
        axis.inexact, axis.unsafe, axis.kind = why, True, None
    for axis, tie in solution.ties.items():
        if tie.frozen:
            freeze(axis, tie.frozen)
    for tie in {id(t): t for t in solution.ties.values()}.values():
        stuck = next((a for a in tie.members if a.frozen or _unsafe(a)), None)
        if stuck is not None:
            for axis in tie.members:
                freeze(axis, f"tied to units that stay: {stuck.frozen or stuck.inexact}")


def _prunable(axis: Axis, solution: Solution) -> bool:
    return axis.frozen is None and not _unsafe(axis) and solution.ties[axis].steps > 1


def _merged(recorded: Sequence[Any], live: set[Axis]) -> tuple[MacsTerm, ...]:
    out = []
    for macs in recorded:
        coefficient, terms = 1, []
        for term in map(merged, macs.terms):
            if any(axis in live for axis in axes(term)):
                terms.append(term)
            else:
                coefficient *= term.n
        out.append(MacsTerm(macs.layer, coefficient, tuple(terms)))
    return tuple(out)


def _storages(held: Sequence[LiveStorage]) -> tuple[Storage, ...]:
    return tuple(
        Storage(h.coefficient, tuple(map(merged, h.terms)), len(held) if h.gone is None else h.gone) for h in held
    )


def _named(
    live: Sequence[Axis], sites: Mapping[str, GraphSite], recorder: Recorder, solution: Solution
) -> list[PrunableAxis]:
    """Name each axis after the module that outputs it first; several axes of one module are numbered."""
    uses: dict[Axis, list[SiteUse]] = {axis: [] for axis in live}
    for name, site in sites.items():
        for dim, term in enumerate(site.dims):
            role = recorder.roles.get((name, dim), "shift")
            for axis in dict.fromkeys(axes(term)):
                if axis in uses:
                    uses[axis].append(SiteUse(name, dim, role))
    homes = {axis: _home(found) for axis, found in uses.items()}
    crowd = Counter(homes.values())
    seen: Counter[str] = Counter()
    groups: dict[int, int] = {}
    named = []
    for axis, found in uses.items():
        home = homes[axis]
        name = f"{home}[{seen[home]}]" if crowd[home] > 1 else home
        seen[home] += 1
        group = groups.setdefault(id(solution.ties[axis]), len(groups))
        named.append(PrunableAxis(name, axis, tuple(found), group))
    return named


def _home(uses: Sequence[SiteUse]) -> str:
    names = [plain_of(use.name) for use in uses if use.role == "output"] or [plain_of(uses[0].name)]
    module = names[0].rpartition(".")[0]
    stored = {use.name for use in uses}
    computed = (n for n in names if n not in stored and n.rpartition(".")[0] == module)
    name = next(
        computed, names[0]
    )  # the tensors that a weight is computed from are in a child, after the other parameters
    return module if module and name.rpartition(".")[2] in ("weight", "bias") else name


def _groups(named: Sequence[PrunableAxis]) -> tuple[Group, ...]:
    members: dict[int, list[PrunableAxis]] = {}
    for axis in named:
        members.setdefault(axis.group, []).append(axis)
    return tuple(Group(tuple(group), math.gcd(*(axis.size for axis in group))) for group in members.values())


def _frozen(sites: Mapping[str, GraphSite], live: set[Axis]) -> tuple[Frozen, ...]:
    out = []
    for name, site in sites.items():
        if site.kind == "parameter":
            for dim, term in enumerate(site.dims):
                reasons = dict.fromkeys(reason_of(axis) for axis in stuck_in(term, live))
                if len(reasons) > 1:
                    reasons.pop(ALONE, None)  # the other reasons explain it
                out += [Frozen(name, dim, reason) for reason in reasons]
    return tuple(out)
