"""Short hashes by which files of measured values know which Graph they were measured on."""

from __future__ import annotations

import json

from secateur.base.hashing import digest, of_weights
from secateur.graph.facts import Facts


def fingerprint_of(graph: Facts) -> dict[str, str]:
    """The weights of the model of a graph and its axes, each as a short hash."""
    axes = [[axis.name, axis.size, axis.group, list(map(str, axis.sites))] for axis in graph.axes]
    return {"weights": of_weights(graph.model), "axes": digest(json.dumps(axes))}


def of_steps(graph: Facts) -> str:
    """What a model does with its weights: its modules as they print, and the ops of the traced call."""
    return digest(json.dumps([repr(graph.model), graph.path]))
