"""Widths of the dimensions of parameters, each an axis or a product of axes (heads times head dimensions).

A share or a floor of a width limits the product, however it is divided among the factors.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from secateur.cost.size_polynomials import polynomial
from secateur.graph.graph import Graph


@dataclass(frozen=True, slots=True)
class Width:
    """A product of axes that is the size of a dimension.

    Args:
        axes: The indices of the axes in the graph.
        params: The number of parameters along this width.
        widest: Whether it is not a factor of another width.
    """

    axes: tuple[int, ...]
    params: float
    widest: bool


@dataclass(frozen=True, slots=True)
class Floor:
    """A lower limit: the product of the counts of these axes (by index) is at least `least`."""

    axes: tuple[int, ...]
    least: int


def widths(graph: Graph) -> Sequence[Width]:
    """Return the widths of a graph, computed once and cached on it."""
    kept = graph.__dict__  # a frozen dataclass refuses setattr; this cache is not part of its value
    if "_widths" not in kept:
        kept["_widths"] = _widths(graph)
    return kept["_widths"]


def products(graph: Graph) -> Sequence[Width]:
    """Return the widest widths that are products of several axes."""
    return [width for width in widths(graph) if width.widest and len(width.axes) > 1]


def _widths(graph: Graph) -> Sequence[Width]:
    number = {axis.term: i for i, axis in enumerate(graph.axes)}
    params: defaultdict[tuple[int, ...], float] = defaultdict(float)
    for site in graph.sites.values():
        for dim in site.dims if site.kind == "parameter" else ():
            for axes, times in polynomial(dim, number).items():
                units = times * math.prod(graph.axes[i].size for i in axes)
                params[tuple(dict.fromkeys(axes))] += math.prod(site.shape) * units / max(dim.n, 1)
    several = [set(axes) for axes in params if len(axes) > 1]
    return [Width(axes, n, not any(set(axes) < other for other in several)) for axes, n in params.items() if axes]


__all__ = ["Floor", "Width", "products", "widths"]
