"""The kinds of targets, one row each: what a target may be about, and how much a model has of it.

Everything that deals with targets reads this table: the parser, the solver, what a Plan counts, prints and saves, the
schedules of a loop, the search, and the command line. So a new kind is one row, from wherever it is added:

    add_kind(Kind("units", "units", cost=lambda graph: graph.cost.sum_of((1, [a.term]) for a in graph.axes)))

A kind with a `cost` is solved for and counted in every Plan that is made while its row is there. A cost is a function
of how many units each axis keeps, in the order of `graph.axes`, and never falls where a count rises: an object with
`many` (values of many sets of counts at once) and `slopes` (what one more unit of each axis adds). Sums of products of
sizes are `graph.cost.sum_of(products)`; the sites of a Graph (`graph.sites`, `graph.macs`) tell the sizes. A row
without a cost is a share or count that planning knows by itself: `channels` are shares of widths, `depth` is blocks.

Milliseconds are one file more: a class with `many` and `slopes` over a table of measured times, and a row

    Kind("latency", "latency", "ms", shares=True, cost=Predicted.of, total=Predicted.whole, of_call=True)

`many` may return floats, and then `"latency=3.5"` is not rounded to a whole number; where counts below 1 make sense,
`shares=False` reads every number as a count. `cost` and `total` return None where a model has no such prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from secateur.base.table import Table
from secateur.errors import InputError

if TYPE_CHECKING:  # the command line lists kinds in its help, which needs no NumPy
    from secateur.cost.size_polynomials import Counts, Slopes

CHANNELS, DEPTH = "channels", "depth"
Number: TypeAlias = "int | float"


class CostFunction(Protocol):
    """A cost as a function of the counts of axes, never less where a count is more."""

    def many(self, counts: Counts) -> Any:
        """Return values for many sets of counts at once: (..., axes) -> (...)."""
        ...

    def slopes(self, counts: Counts) -> Slopes:
        """Return what one more unit of each axis adds, to first order: (axes) -> (axes)."""
        ...


@dataclass(frozen=True)
class Kind:
    """What a target may be about.

    Args:
        name: As targets write it: `"macs=0.5"`. An identifier.
        label: As tables print it.
        unit: Printed behind the label; empty where the label says it.
        shares: Whether a number up to 1 is a share of what the model has.
        counts: Whether a number is a count (above 1, or any where `shares` is false).
        cost: From a Graph to a `CostFunction`, or to None where it is not known of that Graph. No cost: planning knows
            the kind by itself.
        total: From a Graph to what its model has in all, or None. Default: the cost of all units.
        of_call: Whether it depends on the size of the example inputs.
        added: What one parameter more, as a bias that recovery adds, adds to it.
        example: A target of this kind, for messages and help.

    Example:
        >>> Kind("memory", "memory", "bytes").heading, Kind("units", "units").example
        ('memory (bytes)', 'units=0.5')
    """

    name: str
    label: str
    unit: str = ""
    shares: bool = field(default=True, kw_only=True)
    counts: bool = field(default=True, kw_only=True)
    cost: Callable[[Any], CostFunction | None] | None = field(default=None, kw_only=True)
    total: Callable[[Any], Number | None] | None = field(default=None, kw_only=True)
    of_call: bool = field(default=False, kw_only=True)
    added: Callable[[Any], Number] | None = field(default=None, kw_only=True)
    example: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise InputError(f"a target kind is named {self.name!r}\nuse an identifier, such as 'macs'")
        if not (self.shares or self.counts):
            raise InputError(f"the target kind {self.name!r} takes neither a share nor a count; allow one")
        if not self.example:
            object.__setattr__(self, "example", f"{self.name}={'0.5' if self.shares else '2'}")

    @property
    def heading(self) -> str:
        """Label and unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


KINDS: Table[str, Kind] = Table("target kinds named")
"""All kinds by name. `del KINDS[name]` takes one out again."""


def add_kind(kind: Kind) -> None:
    """Add a row to the table.

    Args:
        kind: The row; targets of its name may be written from now on.

    Raises:
        ValueError: A kind of that name is there already.

    Example:
        >>> import secateur, torch
        >>> def units(graph):
        ...     return graph.cost.sum_of((1, [axis.term]) for axis in graph.axes)
        >>> add_kind(Kind("units", "units", cost=units))
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        >>> plan = secateur.plan(secateur.trace(net, torch.zeros(1, 4)), "units=0.5")
        >>> plan.before["units"], plan.after["units"]
        (8, 4)
        >>> del KINDS["units"]
    """
    KINDS[kind.name] = kind


def counted() -> Iterator[Kind]:
    """Return the kinds that a Plan counts."""
    return (kind for kind in KINDS.values() if kind.cost is not None)


def value_at(cost: CostFunction, counts: Counts) -> Number:
    """Return one value of a cost, as a Python number."""
    import numpy as np

    return np.asarray(cost.many(counts)).item()


for _kind in (
    Kind(CHANNELS, "channels", counts=False, example="channels=0.7"),
    Kind(
        "params",
        "parameters",
        cost=lambda graph: graph.cost.params,
        total=lambda graph: graph.params,
        added=lambda parameter: parameter.numel(),
        example="params=1.76e6",
    ),
    Kind(
        "macs",
        "MACs",
        cost=lambda graph: graph.cost.macs,
        total=lambda graph: graph.total_macs,
        of_call=True,
    ),
    Kind(
        "memory",
        "memory",
        "bytes",
        cost=lambda graph: (
            None if graph.reduced.removed else graph.cost.memory
        ),  # known of the network as it was traced
        total=lambda graph: graph.memory,
        of_call=True,
        added=lambda parameter: parameter.numel() * parameter.element_size(),  # held all the time
        example="memory=20e6",
    ),
    Kind(DEPTH, "blocks", total=lambda graph: sum(block.counts for block in graph.blocks), example="depth=0.75"),
):
    add_kind(_kind)
