"""The units that a plan keeps, by the axes of a Graph."""

from __future__ import annotations

from typing import Any

from secateur.errors import InputError
from secateur.graph.graph import Graph
from secateur.plan.plan import Plan


def kept_by_axis(graph: Graph, plan: Plan) -> dict[Any, Any]:
    """Return the units that a plan keeps, by the axes of a Graph, in the form that `terms.positions` takes.

    Raises `InputError` if the plan cuts an axis that is not a prunable axis of the Graph.
    """
    for name, axis in plan.axes.items():
        if axis.kept is not None and name not in graph.by_name and axis.kept_count != axis.size:
            raise InputError(f"the plan cuts {name!r}, which is not a prunable axis of this model on these inputs")
    return {a.term: plan.axes[a.name].kept for a in graph.axes if a.name in plan.axes}
