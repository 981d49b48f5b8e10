"""The Graph: what a trace found out about a model, and its printing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import nn

from .naming import plain_of
from .plan import Gives, Renorm, Totals
from .readers import Reader
from .terms import CHANNEL, EXPERT, ONE, Axis, Cat, Each, Term, axes, find, freeze, merged, settle

if TYPE_CHECKING:
    from .blocks import Block
    from .caches import Cache
    from .calls import Call
    from .graph_why import Why
    from .trace.algebra import Ratio
    from .trace.life import Held
    from .trace.recorder import At, Reading, Recorder, Sample, Step
    from .trace.sizes import Attribute, Guard, Ledger
    from .trace.solve import Solution, Solver
    from .trace.staging import Stage


ALONE = "one unit by itself"
SIZE_ALONE = "the calls read its size alone, not its values"


@dataclass(frozen=True, slots=True)
class SiteUse:
    """A parameter or buffer dimension in which an axis occurs, and the part it plays there."""

    name: str
    dim: int
    role: str

    def __str__(self) -> str:
        return f"{self.name}[{self.dim}] {self.role}"


@dataclass(frozen=True, slots=True)
class GraphSite:
    """A tensor of the model and the term of each of its dimensions. kind: parameter, buffer or attribute."""

    name: str
    kind: str
    dims: tuple[Term, ...]
    each: int = 4  # bytes of an element

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(dim.n for dim in self.dims)


@dataclass(frozen=True, slots=True)
class PrunableAxis:
    """`size` units that can be dropped one by one, everywhere at once.

    `inexact` says how dropping differs from silencing (a mean or variance over the axis), or is None. `per` is true
    for an axis that is chosen anew for every unit of another one (head dims per head).
    """

    name: str
    term: Axis
    sites: tuple[SiteUse, ...]
    group: int

    @property
    def size(self) -> int:
        return self.term.n

    @property
    def least(self) -> int:
        return self.term.least

    @property
    def multiple(self) -> int:
        """What a smaller count is a multiple of: kernels may ask for aligned rows."""
        return self.term.multiple

    @property
    def inexact(self) -> str | None:
        return self.term.inexact

    @property
    def kind(self) -> str:
        """What the units are: "channel", "head" (of attention), "head_dim" (a dimension inside a head) or "expert"."""
        return self.term.kind or CHANNEL

    @property
    def outer(self) -> Term | None:
        return self.term.outer if isinstance(self.term, Each) else None


@dataclass(frozen=True, slots=True)
class Group:
    """Axes that keep the same share of their units: `steps` equal steps take each from nothing to all."""

    axes: tuple[PrunableAxis, ...]
    steps: int


@dataclass(frozen=True, slots=True)
class MacsTerm:
    """`coefficient` times the sizes of the terms multiply-adds, spent by `layer`."""

    layer: str
    coefficient: int
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Storage:
    """`coefficient` times the sizes of the terms bytes that a call makes. `gone`: how many were made before it went."""

    coefficient: int
    terms: tuple[Term, ...]
    gone: int


@dataclass(frozen=True, slots=True)
class Fold:
    """When `term` shrinks, these rows of a parameter are multiplied by a power of new size over old size."""

    name: str
    dim: int
    rows: tuple[tuple[int, int], ...]  # half-open ranges
    term: Term
    power: float = 0.5


@dataclass(frozen=True, slots=True)
class Frozen:
    """A dimension of a parameter that stays as it is, and why."""

    name: str
    dim: int
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """How a model was traced, so that it can be traced again when somebody asks why."""

    calls: tuple[Call, ...]
    outputs: Callable[[Any], Any] | None
    run: str
    lift: bool
    uniform: bool = False


@dataclass(frozen=True)
class Coverage:
    """Shares of parameters and of MACs that lie on a prunable axis."""

    params: float
    macs: float


@dataclass(frozen=True)
class Graph:
    """Axes, sites, size equations and costs of a model. `print(graph)` tells; `why(pattern)` explains."""

    axes: tuple[PrunableAxis, ...]
    groups: tuple[Group, ...]
    sites: Mapping[str, GraphSite]
    macs: tuple[MacsTerm, ...]
    storages: tuple[Storage, ...]  # of the first call, in the order in which they are made
    attributes: Mapping[Attribute, Ratio]
    attribute_values: Mapping[Attribute, int]
    unread: tuple[Attribute, ...]  # of which no call says what they are
    guards: tuple[Guard, ...]
    caches: tuple[Cache, ...]
    folds: tuple[Fold, ...]
    renorms: tuple[Renorm, ...]
    readers: Mapping[str, Reader]  # by the name of their weight
    frozen: tuple[Frozen, ...]
    aliases: Mapping[str, str]
    unreached: tuple[str, ...]
    unknown: Mapping[str, int]
    samples: Mapping[str, Sample] = field(repr=False)  # of unknown ops
    readings: Mapping[At, Reading] = field(repr=False)
    numbered: Mapping[str, int] = field(repr=False)  # how many calls the code of each module made
    source: Source = field(repr=False)
    path: tuple[Step, ...] = field(repr=False)  # the ops of the first call, with the floats in their arguments
    model: nn.Module = field(repr=False)
    find_blocks: Callable[[], tuple[Block, ...]] = field(default=tuple, repr=False)
    removed: Mapping[str, Gives] = field(default_factory=dict)  # blocks that this Graph is without
    ghosts: tuple[PrunableAxis, ...] = field(default=(), repr=False)  # axes that went with them
    whole: Totals | None = None  # the size of the model with them
    untrained: str | None = None  # why training mode, which differs from evaluation mode, could not be recorded

    @cached_property
    def by_name(self) -> dict[str, PrunableAxis]:
        """Axes by every name that means them: their own, and each module or parameter that they come out of."""
        from .graph_names import names_of

        return names_of(self)

    def axis(self, name: str) -> PrunableAxis:
        """The axis that a name means: its own, of what it comes out of, of a tensor or dimension that holds it.

        Raises `InputError` with the nearest names, the reason why nothing is cut there, or all where there are several.
        """
        from .graph_names import axis_named

        return axis_named(self, name)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Modules that can be bypassed, or must stay and why. Runs the model without them when first asked for."""
        return self.find_blocks()

    @cached_property
    def params(self) -> int:
        """The number of parameters of the whole model."""
        return sum(math.prod(site.shape) for site in self.sites.values() if site.kind == "parameter")

    @cached_property
    def total_macs(self) -> int:
        """Multiply-adds of the first traced call."""
        return sum(m.coefficient * math.prod(t.n for t in m.terms) for m in self.macs)

    @property
    def totals(self) -> Totals:
        """The size of the model that was traced, with blocks that this Graph is without."""
        return self.whole or Totals(self.params, self.total_macs, self.memory)

    @cached_property
    def memory(self) -> int | None:
        """Bytes of the tensors of the model, and the peak of what the first traced call makes; see `secateur.memory`.

        None without some blocks: what a call holds is known of the network as it was traced.
        """
        from .cost import Cost

        if self.removed:
            return None
        cost = Cost.of(self)
        return cost.memory(cost.full)

    @cached_property
    def coverage(self) -> Coverage:
        """Shares of parameters and MACs on a prunable axis."""
        live = {axis.term for axis in self.axes}
        params = sum(
            math.prod(site.shape) * covered(site.dims, live) for site in self.sites.values() if site.kind == "parameter"
        )
        macs = sum(m.coefficient * math.prod(t.n for t in m.terms) * covered(m.terms, live) for m in self.macs)
        return Coverage(params / max(self.params, 1), macs / max(self.total_macs, 1))

    def why(self, pattern: str) -> Why:
        """For parameters that match a glob: the axes they hold, what these couple, and by which ops the rest is frozen.

        The model is traced once more. Raises `InputError` with the nearest names where nothing matches.
        """
        from .graph_why import why

        return why(self, pattern)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        from .graph_data import as_dict

        return as_dict(self)

    def __str__(self) -> str:
        from .graph_text import table

        return table(self)


def covered(dims: Sequence[Term], live: set[Axis]) -> float:
    """The share of a tensor's elements that lie on a prunable axis in some dimension."""
    outside = 1.0
    for dim in dims:
        outside *= 1 - _live_share(dim, live)
    return 1 - outside


def _live_share(term: Term, live: set[Axis]) -> float:
    term = find(term)
    if isinstance(term, Axis):
        return float(term in live)
    shares = [(_live_share(part, live), part.n) for part in term.parts]
    if isinstance(term, Cat):
        return sum(share * n for share, n in shares) / max(term.n, 1)
    return 1 - math.prod(1 - share for share, _ in shares)


# --- from a recorded run --------------------------------------------------------------------------------------------


def build(model: nn.Module, stage: Stage, recorder: Recorder, unreached: list[str], source: Source) -> Graph:
    """Solve the sizes of a recorded run and gather what remains."""
    from .trace.folds import place_folds
    from .trace.forbidding import forbidden
    from .trace.unread import follow

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
        storages=_storages(recorder.life.held),
        attributes=solution.attributes,
        attribute_values=stage.attributes,
        unread=unread,
        guards=tuple(solution.guards),
        caches=tuple(stage.caches),
        folds=tuple(folds),
        renorms=tuple(recorder.renorms.values()),
        readers=_readers(recorder, sites),
        frozen=_frozen(sites, set(live)),
        aliases=dict(stage.aliases),
        unreached=tuple(unreached),
        unknown=dict(Counter(recorder.unknown)),
        samples=dict(recorder.samples),
        readings=recorder.readings,
        numbered=recorder.numbered,
        source=source,
        path=tuple(recorder.path),
        model=model,
        untrained=recorder.untrained,
    )


def _solved(candidates: Sequence[Axis], stage: Stage, ledger: Ledger, source: Source) -> Solver:
    """Solve the sizes. What would be a quotient of counts in a config is a ratio, of widths say, and stays as it is."""
    from .trace.sizes import Equation
    from .trace.solve import Solver

    solver = Solver(candidates, stage.attributes)
    solution = solver.run(ledger)
    quotients = [a for a, ratio in solution.attributes.items() if solver.reduced(ratio).under.variables]
    if not source.uniform or not quotients:
        return solver
    pinned = [Equation(a, stage.attributes[a], f"{a} is a ratio of sizes") for a in quotients]
    again = Solver(candidates, stage.attributes)
    again.run(replace(ledger, equations=[*pinned, *ledger.equations]))
    return again


def _readers(recorder: Recorder, sites: Mapping[str, GraphSite]) -> dict[str, Reader]:
    """Those of which the whole weight sums over channels."""
    found = {}
    for name, reader in recorder.readers.items():
        channels, site = find(reader.channels), sites.get(name)
        if site is not None and site.kind == "parameter" and site.shape[reader.dim] * reader.groups == channels.n:
            found[name] = replace(reader, channels=merged(channels))
    return found


def _settle_sites(sites: Mapping[str, GraphSite], unread: Mapping[str, str]) -> None:
    """Parameters are sliced one dimension at a time, so an Each must find its outer axis in its own dimension.

    unread: why parameters stay of which no call read the values.
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
    """Experts are chosen among, and dropping one is a choice less: that alone is what a softmax over them says."""
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


def _storages(held: Sequence[Held]) -> tuple[Storage, ...]:
    return tuple(
        Storage(h.coefficient, tuple(map(merged, h.terms)), len(held) if h.gone is None else h.gone) for h in held
    )


def _named(
    live: Sequence[Axis], sites: Mapping[str, GraphSite], recorder: Recorder, solution: Solution
) -> list[PrunableAxis]:
    """Name each axis after the module it first comes out of; several axes of one module get numbers."""
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
    name = next(computed, names[0])  # what a weight is computed from is held by a child, behind the other parameters
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
                    reasons.pop(ALONE, None)  # the others tell why
                out += [Frozen(name, dim, reason) for reason in reasons]
    return tuple(out)


def stuck_in(term: Term, live: Collection[Axis]) -> Iterator[Axis]:
    """The axes of a dimension that stay, single units of a longer one among them."""
    return (axis for axis in axes(term) if axis not in live and (axis.n > 1 or (term.n > 1 and axis is not ONE)))


def reason_of(axis: Axis) -> str:
    if axis.frozen:
        return axis.frozen
    if axis.n == 1:
        return ALONE
    return axis.inexact or f"at least {axis.least} of its {axis.n} units must stay"
