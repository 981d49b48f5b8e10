"""A plan's kept units by the axes of a graph."""

from __future__ import annotations

from typing import Any

from secateur.errors import InputError
from secateur.graph.graph import Graph
from secateur.plan.plan import Plan


def kept_by_axis(graph: Graph, plan: Plan) -> dict[Any, Any]:
    """Kept units by the axes of this graph, as `terms.positions` reads them.

    Raises `InputError` where the plan cuts what is no prunable axis of it.
    """
    for name, axis in plan.axes.items():
        if axis.kept is not None and name not in graph.by_name and axis.kept_count != axis.size:
            raise InputError(f"the plan cuts {name!r}, which is no prunable axis of this model on these inputs")
    return {a.term: plan.axes[a.name].kept for a in graph.axes if a.name in plan.axes}
