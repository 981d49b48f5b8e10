"""How much a step of a group counts in the sum of scores that is to be kept.

Scores that were given, and those of criteria that compare axes themselves (Taylor's, divided by the norm of the axis;
all that estimate a loss), are taken as they are: a step counts the units that go with it. Other criteria are relative,
of mean one on every axis, and say nothing of what one axis matters beside another: there a unit counts the rows that it
has in all the weights that produce it. So a head counts as its dimensions do, and a channel of a residual stream, which
every block writes to, as one channel of each.
"""

from __future__ import annotations

from secateur.graph.graph import Graph
from secateur.graph.parts import PrunableAxis
from secateur.terms import size


def worth(graph: Graph, *, relative: bool) -> list[int]:
    """Units, or rows, that go with a step of each group."""
    of = _rows if relative else _units
    return [sum(axis.size // group.steps * of(graph, axis) for axis in group.axes) for group in graph.groups]


def _units(graph: Graph, axis: PrunableAxis) -> int:
    return axis.outer.n if axis.outer is not None else 1


def _rows(graph: Graph, axis: PrunableAxis) -> int:
    uses = [(use, graph.sites[use.name].dims) for use in axis.sites if use.role == "output"]
    written = [dims[use.dim] for use, dims in uses if len(dims) > 1]
    return max(sum(dim.n - size(dim, {axis.term: axis.size - 1}) for dim in written), 1)


__all__ = ["worth"]
