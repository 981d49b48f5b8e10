"""Weights of the steps of each group in the sum of scores that a plan keeps.

Scores passed by the caller, and those of criteria that are comparable across axes (Taylor, divided by the norm of the
axis; all that estimate a loss), are taken as they are: a step counts as many times as it has units. Other criteria are
relative, with mean one on every axis, and cannot rank one axis against another. There, a unit counts as many times as
it has rows in all the weights that produce it. So a head counts as much as its dimensions, and a channel of a residual
stream, which every block writes to, as much as one channel of each block.
"""

from __future__ import annotations

from secateur.graph.graph import Graph
from secateur.graph.parts import PrunableAxis
from secateur.terms import size


def worth(graph: Graph, *, relative: bool) -> list[int]:
    """Return the number of units, or of rows if `relative`, in a step of each group."""
    of = _rows if relative else _units
    return [sum(axis.size // group.steps * of(graph, axis) for axis in group.axes) for group in graph.groups]


def _units(graph: Graph, axis: PrunableAxis) -> int:
    return axis.outer.n if axis.outer is not None else 1


def _rows(graph: Graph, axis: PrunableAxis) -> int:
    uses = [(use, graph.sites[use.name].dims) for use in axis.sites if use.role == "output"]
    written = [dims[use.dim] for use, dims in uses if len(dims) > 1]
    return max(sum(dim.n - size(dim, {axis.term: axis.size - 1}) for dim in written), 1)


__all__ = ["worth"]
