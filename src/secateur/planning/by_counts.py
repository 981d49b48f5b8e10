"""Plans from unit counts: each axis keeps the units with the highest scores."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from secateur.cost.size_polynomials import Counts
from secateur.graph.graph import Graph
from secateur.importance import score
from secateur.plan.plan import Plan
from secateur.planning.building import build_plan
from secateur.planning.solver.ladders import kept_units


def keeping(graph: Graph, counts: Counts, scores: Mapping[str, torch.Tensor], target: tuple[str, ...] = ()) -> Plan:
    """Return the plan in which each axis keeps `counts` units, those with the highest scores; `target` is recorded."""
    pairs = zip(graph.axes, counts, strict=True)
    kept = {axis.name: kept_units(axis, int(n), scores[axis.name]) for axis, n in pairs}
    return build_plan(graph, kept, counts, target)


def whole(graph: Graph) -> Plan:
    """Return the plan that keeps every unit."""
    return keeping(graph, graph.cost.full, score(graph, {}))
