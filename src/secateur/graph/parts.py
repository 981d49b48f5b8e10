"""TODO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from secateur.anatomy.calls import Call
from secateur.plan.parts import Gives
from secateur.terms import CHANNEL, Axis, PerUnit, Term


class Range(NamedTuple):
    """Places from `start` up to `stop` in what a trace recorded."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Block:
    """A module that can be bypassed, or looks like one that can and must stay, with the reason `why`.

    params: of the whole block; macs: of the first call. `counts`: it is one of the blocks that a depth target counts,
    the outermost that are no chain of two or more others. `gives`: see `Plan.removed`. `spent` and `walked`: its places
    in the Graph's `macs` and `path`.
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
        return self.term.outer if isinstance(self.term, PerUnit) else None


@dataclass(frozen=True, slots=True)
class Group:
    """Axes that keep the same share of their units: `steps` equal steps take each from nothing to all."""

    axes: tuple[PrunableAxis, ...]
    steps: int


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
class TraceSource:
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


TracedStep: TypeAlias = "tuple[str, tuple[float, ...]]"


class At(NamedTuple):
    """Which call it is: the innermost module whose code runs, and the number of the call there."""

    module: str
    number: int


@dataclass(frozen=True, slots=True)
class Sample:
    """The shapes of the tensors that an op took and gave."""

    operands: tuple[tuple[int, ...], ...]
    results: tuple[tuple[int, ...], ...]


@dataclass(slots=True)
class Reading:
    """Where an op called `name` reduces over units: (argument, dim, dim of the result or None, term) each."""

    name: str
    reads: list[tuple[str, int, int | None, Term]] = field(default_factory=list)
    resized: dict[str, tuple[Term, ...]] = field(default_factory=dict)  # size arguments that shrink too
    numbered: dict[int, Term] = field(default_factory=dict)  # results that number units, by their place
    masked: tuple[Term, ...] = ()  # the result's dimensions, where dropped units are zero in it but not in its operands
    drawn: tuple[Term, ...] | None = None  # the result's dimensions, where it is random


@dataclass(frozen=True, slots=True)
class Hop:
    """One op of a chain: `at` its source line, `module` the path of the module that runs it ("" for the model)."""

    op: str
    at: str
    module: str

    def __str__(self) -> str:
        place = " in ".join(filter(None, (self.at, self.module)))
        return f"{self.op} ({place})" if place else self.op
