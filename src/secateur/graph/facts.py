"""The data of a Graph: everything that a trace found about a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import nn

from secateur.base.names import plain_of
from secateur.cost.cost import Cost, Counts
from secateur.cost.kinds import KINDS, CostFunction, Kind, counted, value_at
from secateur.cost.parts import MacsTerm, Storage
from secateur.graph.consumers import Consumer
from secateur.graph.parts import ALONE, Block, Coverage, Frozen, GraphSite, Group, PrunableAxis
from secateur.graph.sections import Diagnosis, Effects, Reduced, RunRecord, Sizes
from secateur.plan.parts import Amount, Totals
from secateur.terms import ONE, Axis, Cat, Term, axes, find


def _unexplained(graph: object) -> None:
    """The default for `Facts.explain`: no explanation is available."""


@dataclass(frozen=True)
class Facts:
    """The prunable axes, sites (dimensions of tensors), size equations and costs of a model."""

    axes: tuple[PrunableAxis, ...]
    groups: tuple[Group, ...]
    sites: Mapping[str, GraphSite]
    macs: tuple[MacsTerm, ...]
    model: nn.Module = field(repr=False)
    storages: tuple[Storage, ...] = ()  # of the first call, in the order of allocation
    readers: Mapping[str, Consumer] = field(default_factory=dict)  # by the name of the weight
    aliases: Mapping[str, str] = field(default_factory=dict)  # further names of a tensor -> its first
    sizes: Sizes = field(default_factory=Sizes)
    effects: Effects = field(default_factory=Effects)
    diagnosis: Diagnosis = field(default_factory=Diagnosis)
    run: RunRecord = field(default_factory=RunRecord, repr=False)
    reduced: Reduced = field(default_factory=Reduced)
    find_blocks: Callable[[], tuple[Block, ...]] = field(default=tuple, repr=False)
    explain: Callable[[Any], Any] = field(default=_unexplained, repr=False)  # a Graph -> an `Explanation`, or None

    @cached_property
    def by_name(self) -> dict[str, PrunableAxis]:
        """Axes by each of their names: their own, and the modules and parameters whose output they are."""
        names = {axis.name: axis for axis in self.axes}
        for axis in self.axes:
            for site in axis.sites:
                if site.role == "output":
                    names.setdefault(plain_of(site.name).rpartition(".")[0], axis)
        return names

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Modules that can be bypassed, and similar ones that must stay, with the reason.

        The first access runs the model without each of these blocks.
        """
        return self.find_blocks()

    @property
    def frozen(self) -> tuple[Frozen, ...]:
        """The dimensions that are not prunable, each with the reason."""
        return self.diagnosis.frozen

    @property
    def unreached(self) -> tuple[str, ...]:
        """The parameters that no call reads."""
        return self.diagnosis.unreached

    @property
    def unknown(self) -> Mapping[str, int]:
        """The ops without a rule, with the number of their calls."""
        return self.diagnosis.unknown

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
        """The size of the traced model, including the blocks that this Graph leaves out."""
        return self.reduced.whole or Totals.of({k.name: Amount(self.total_of(k.name), k.heading) for k in counted()})

    def totals_at(self, counts: Counts) -> Totals:
        """Return the size that is left when the axes have these counts."""
        costs = {kind: self.cost_of(kind.name) for kind in counted()}
        values = {kind: None if cost is None else value_at(cost, counts) for kind, cost in costs.items()}
        return Totals.of({kind.name: Amount(value, kind.heading) for kind, value in values.items()})

    def total_of(self, name: str) -> int | float | None:
        """Return the total of a kind of `secateur.cost.kinds`, without removed blocks; None if unknown."""
        kind = KINDS[name]
        if kind.total is not None:
            return kind.total(self)
        cost = self.cost_of(name)
        return None if cost is None else value_at(cost, self.cost.full)

    def cost_of(self, name: str) -> CostFunction | None:
        """Return a kind of `secateur.cost.kinds` as a function of the counts of the axes; None if unknown."""
        kind = KINDS[name]
        if kind not in self._costs:
            self._costs[kind] = kind.cost(self) if kind.cost is not None else None
        return self._costs[kind]

    @cached_property
    def _costs(self) -> dict[Kind, CostFunction | None]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_costs"}  # rows may not be picklable

    @cached_property
    def memory(self) -> int | None:
        """The memory of the first traced call in bytes, as defined in `secateur.cost.memory`.

        None if this Graph leaves out blocks, because the peak is known only for the network that was traced.
        """
        if self.reduced.removed:
            return None
        return self.cost.memory(self.cost.full)

    @cached_property
    def cost(self) -> Cost:
        """Parameters, MACs and memory as functions of the counts of the axes, in the order of `axes`."""
        parameters = [(1, site.dims) for site in self.sites.values() if site.kind == "parameter"]
        tensors = [(site.each, site.dims) for site in self.sites.values() if site.kind != "attribute"]
        macs = [(m.coefficient, m.terms) for m in self.macs]
        return Cost([axis.term for axis in self.axes], parameters, macs, tensors, self.storages)

    @cached_property
    def coverage(self) -> Coverage:
        """The shares of parameters and MACs that lie on a prunable axis."""
        live = {axis.term for axis in self.axes}
        params = sum(
            math.prod(site.shape) * covered(site.dims, live) for site in self.sites.values() if site.kind == "parameter"
        )
        macs = sum(m.coefficient * math.prod(t.n for t in m.terms) * covered(m.terms, live) for m in self.macs)
        return Coverage(params / max(self.params, 1), macs / max(self.total_macs, 1))


def covered(dims: Sequence[Term], live: set[Axis]) -> float:
    """Return the share of the elements of a tensor that lie on a prunable axis in at least one dimension."""
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


def stuck_in(term: Term, live: Collection[Axis]) -> Iterator[Axis]:
    """Return the axes of a dimension that are not prunable, including single units of a longer dimension."""
    return (axis for axis in axes(term) if axis not in live and (axis.n > 1 or (term.n > 1 and axis is not ONE)))


def reason_of(axis: Axis) -> str:
    if axis.frozen:
        return axis.frozen
    if axis.n == 1:
        return ALONE
    return axis.inexact or f"at least {axis.least} of its {axis.n} units must stay"
