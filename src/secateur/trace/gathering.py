"""Builds a Graph from a recorded run: solves the sizes, and names and groups the prunable axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import nn

from secateur.cost.parts import MacsTerm, Storage
from secateur.graph.assembling import (
    find_candidates,
    frozen_dims,
    grouped,
    is_unsafe,
    merged_macs,
    named_axes,
    settle_sites,
)
from secateur.graph.consumers import Consumer
from secateur.graph.graph import Graph
from secateur.graph.parts import SIZE_ALONE, GraphSite, TraceSource
from secateur.graph.sections import Diagnosis, Effects, RunRecord, Sizes
from secateur.graph.sizes import Dim, SizeEquation
from secateur.terms import Axis, find, freeze, merged, sized
from secateur.trace.attention_scaling import place_folds
from secateur.trace.forbidding import forbidden
from secateur.trace.module_widths import follow_widths
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
    settle_sites(sites, {**dict.fromkeys(measured, SIZE_ALONE), **{n: f"no call reached {n}" for n in unreached}})
    folds = place_folds(recorder.queries, recorder.used)
    candidates = find_candidates(sites)
    ledger = replace(recorder.ledger, equations=[*recorder.ledger.equations, *_equal_cases(candidates)])
    solver = _solved(candidates, stage, ledger, source)
    solution = solver.solution
    if not source.uniform:
        follow_widths(model, stage, solver, recorder.watch.widths)
    unread = follow(solver, stage)
    _mark(solution)
    live = [axis for axis in candidates if _prunable(axis, solution)]
    for tie, where in forbidden(live, solution, stage.attributes):
        for axis in tie.members:
            freeze(axis, f"{where} allows no smaller count")
    live = [axis for axis in live if axis.frozen is None]
    named = named_axes(live, sites, recorder.roles, lambda axis: id(solution.ties[axis]))
    return Graph(
        axes=tuple(named),
        groups=grouped(named),
        sites=sites,
        macs=merged_macs((MacsTerm(macs.layer, 1, macs.terms) for macs in recorder.macs), set(live)),
        model=model,
        storages=_storages(recorder.life.held),
        readers=_readers(recorder, sites),
        aliases=dict(stage.aliases),
        sizes=Sizes(solution.attributes, stage.attributes, unread, tuple(solution.guards)),
        effects=Effects(tuple(stage.caches), tuple(folds), tuple(recorder.renorms.values())),
        diagnosis=Diagnosis(
            frozen=frozen_dims(sites, set(live)),
            unreached=tuple(unreached),
            unknown=dict(Counter(recorder.unknown)),
            samples=dict(recorder.samples),
            untrained=recorder.untrained,
        ),
        run=RunRecord(source, tuple(recorder.path), recorder.readings, recorder.numbered),
    )


def _equal_cases(candidates: Iterable[Axis]) -> list[SizeEquation]:
    """Return the equations between the cases that axes are parts of."""
    cases = dict.fromkeys(case for axis in candidates for case in axis.within)
    where = "groups that keep equally many units"
    return [SizeEquation(Dim(case.cases[0]), Dim(other), where) for case in cases for other in case.cases[1:]]


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


def _mark(solution: Solution) -> None:
    for axis, why in solution.unsafe.items():
        axis.inexact, axis.unsafe, axis.kind = why, True, None
    for axis, tie in solution.ties.items():
        if tie.frozen:
            freeze(axis, tie.frozen)
    for tie in {id(t): t for t in solution.ties.values()}.values():
        stuck = next((a for a in tie.members if a.frozen or is_unsafe(a)), None)
        if stuck is not None:
            for axis in tie.members:
                freeze(axis, f"tied to units that stay: {stuck.frozen or stuck.inexact}")


def _prunable(axis: Axis, solution: Solution) -> bool:
    return axis.frozen is None and not is_unsafe(axis) and solution.ties[axis].steps > 1


def _storages(held: Sequence[LiveStorage]) -> tuple[Storage, ...]:
    return tuple(
        Storage(h.coefficient, tuple(map(sized, h.terms)), len(held) if h.gone is None else h.gone) for h in held
    )
