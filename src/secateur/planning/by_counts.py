"""Plans by how many units each axis keeps, whatever a target says: each keeps those with the highest scores."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from secateur.cost.size_polynomials import Counts
from secateur.graph.graph import Graph
from secateur.importance import score
from secateur.plan.plan import Plan
from secateur.planning.building import build_plan
from secateur.planning.solver.ladders import kept_units


def keeping(graph: Graph, counts: Counts, scores: Mapping[str, torch.Tensor]) -> Plan:
    """The plan in which each axis keeps so many units, those with the highest scores."""
    pairs = zip(graph.axes, counts, strict=True)
    return build_plan(graph, {axis.name: kept_units(axis, int(n), scores[axis.name]) for axis, n in pairs}, counts, ())


def whole(graph: Graph) -> Plan:
    """The plan that keeps everything."""
    return keeping(graph, graph.cost.full, score(graph, {}))
