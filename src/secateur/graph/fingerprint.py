"""Short hashes that identify the Graph on which stored values were measured."""

from __future__ import annotations

import json

from secateur.base.hashing import digest, of_weights
from secateur.graph.facts import Facts


def fingerprint_of(graph: Facts) -> dict[str, str]:
    """Return a short hash of the weights of the model of a Graph, and one of its axes."""
    axes = [[axis.name, axis.size, axis.group, list(map(str, axis.sites))] for axis in graph.axes]
    return {"weights": of_weights(graph.model), "axes": digest(json.dumps(axes))}


def of_steps(graph: Facts) -> str:
    """Return a short hash of what a model does with its weights: the `repr` of its modules, and the traced ops."""
    return digest(json.dumps([repr(graph.model), graph.run.path]))
