"""The parts of a Graph: axes, sites, groups, frozen dimensions, blocks, and what a trace recorded of each op."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from secateur.anatomy.calls import Call
from secateur.plan.parts import Gives
from secateur.terms import CHANNEL, Axis, PerUnit, Term


class Range(NamedTuple):
    """A half-open range of indices into what a trace recorded: from `start` up to, but without, `stop`."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Block:
    """A module that can be bypassed, or a similar one that must stay.

    Attributes:
        name: the dotted name of the module.
        kind: the name of its class.
        params: the number of parameters in the block.
        macs: its multiply-adds in the first traced call.
        gives: what stands in for its output when it is bypassed; see `Plan.removed`.
        uses: the dimensions in the block that hold prunable axes.
        spent: its range in `graph.macs`.
        walked: its range in `graph.run.path`.
        counts: whether a depth target counts it: it is one of the outermost blocks that are not a chain of two or more
            other blocks.
        why: the reason why it must stay; None if it can be bypassed.
    """

    name: str
    kind: str
    params: int
    macs: int
    gives: Gives
    uses: tuple[SiteUse, ...]
    spent: Range
    walked: Range
    counts: bool
    why: str | None


ALONE = "one unit by itself"

SIZE_ALONE = "the calls read its size alone, not its values"


@dataclass(frozen=True, slots=True)
class SiteUse:
    """A dimension `dim` of the parameter or buffer `name` in which an axis occurs, and the role of the axis there."""

    name: str
    dim: int
    role: str

    def __str__(self) -> str:
        return f"{self.name}[{self.dim}] {self.role}"


@dataclass(frozen=True, slots=True)
class GraphSite:
    """A tensor of the model, with the term of each dimension. `kind` is "parameter", "buffer" or "attribute"."""

    name: str
    kind: str
    dims: tuple[Term, ...]
    each: int = 4  # bytes per element

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(dim.n for dim in self.dims)


@dataclass(frozen=True, slots=True)
class PrunableAxis:
    """A set of units, such as channels or heads, each of which can be removed from all tensors at once.

    Attributes:
        name: the name of the axis: usually that of the first layer whose output it is.
        size: the number of units.
        kind: what the units are: "channel", "head", "head_dim" or "expert".
        least: the smallest number of units that can stay.
        multiple: a smaller number of units must be a multiple of this.
        inexact: how removing a unit differs from setting it to zero (a mean or variance over the axis), or None.
        outer: for an axis whose units are chosen separately for each unit of another term (such as the head dims of
            each head), that term; otherwise None.
        sites: the dimensions of parameters and buffers in which the axis occurs.
        group: the index of its group in `graph.groups`.
        term: the axis in the terms of `graph.sites`.
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
        """A smaller count must be a multiple of this, because some kernels need aligned rows."""
        return self.term.multiple

    @property
    def inexact(self) -> str | None:
        return self.term.inexact

    @property
    def kind(self) -> str:
        """The kind of the units: "channel", "head" (of attention), "head_dim" (a dimension of a head) or "expert"."""
        return self.term.kind or CHANNEL

    @property
    def outer(self) -> Term | None:
        return self.term.outer if isinstance(self.term, PerUnit) else None


@dataclass(frozen=True, slots=True)
class Group:
    """Axes that must keep the same share of their units: a multiple of 1 / `steps`."""

    axes: tuple[PrunableAxis, ...]
    steps: int


@dataclass(frozen=True, slots=True)
class Fold:
    """Rows of a parameter that are multiplied by (new size of `term` / old size) ** `power` when `term` shrinks."""

    name: str
    dim: int
    rows: tuple[tuple[int, int], ...]  # half-open ranges
    term: Term
    power: float = 0.5


@dataclass(frozen=True, slots=True)
class Frozen:
    """A dimension of a parameter that is not prunable, and the reason."""

    name: str
    dim: int
    reason: str


@dataclass(frozen=True, slots=True)
class TraceSource:
    """The arguments of a trace, with which `graph.why` traces the model again."""

    calls: tuple[Call, ...] = ()
    outputs: Callable[[Any], Any] | None = None
    run: str = "auto"
    lift: bool = False
    uniform: bool = False


@dataclass(frozen=True)
class Coverage:
    """The shares (0 to 1) of parameters and of MACs that lie on a prunable axis."""

    params: float
    macs: float


TracedStep: TypeAlias = "tuple[str, tuple[float, ...]]"


class At(NamedTuple):
    """Identifies a call of an op: the innermost module whose code runs it, and its number among the calls there."""

    module: str
    number: int


@dataclass(frozen=True, slots=True)
class Sample:
    """The shapes of the tensors that an op received and returned."""

    operands: tuple[tuple[int, ...], ...]
    results: tuple[tuple[int, ...], ...]


@dataclass(slots=True)
class Reading:
    """Where an op named `name` reduces over units: (argument, dim, dim of the result or None, term) each."""

    name: str
    reads: list[tuple[str, int, int | None, Term]] = field(default_factory=list)
    resized: dict[str, tuple[Term, ...]] = field(default_factory=dict)  # size arguments that shrink too
    numbered: dict[int, Term] = field(default_factory=dict)  # results that contain indices of units, by position
    masked: tuple[Term, ...] = ()  # dimensions of the result, if dropped units are zero only in the result
    drawn: tuple[Term, ...] | None = None  # dimensions of the result, if it is random


@dataclass(frozen=True, slots=True)
class Hop:
    """One op in an explanation: `at` is its source line, `module` the module that runs it ("" for the model)."""

    op: str
    at: str
    module: str

    def __str__(self) -> str:
        place = " in ".join(filter(None, (self.at, self.module)))
        return f"{self.op} ({place})" if place else self.op
