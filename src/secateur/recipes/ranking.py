"""Global ranking of the units of a network: "the lowest N of all filters", "below one global threshold".

Targets of `secateur.plan` count parameters, MACs or the share of each axis. The first papers counted filters in the
whole network, so their recipes name the units to cut: `secateur.plan(graph, drop=lowest(graph, scores, 100))`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from secateur.errors import InputError
from secateur.graph.graph import Graph


def units_of(graph: Graph) -> int:
    """Return the number of units in all prunable axes."""
    return sum(axis.size for axis in graph.axes)


def lowest(graph: Graph, scores: Mapping[str, Tensor], count: int, *, least: int = 2) -> dict[str, list[int]]:
    """Return the `count` units with the lowest scores in the network, by axis, as `drop=` takes them.

    scores: (units,) for each axis, on one scale. least: the number of units with the highest scores that every axis
    keeps. Ties go to the first axis and the lower index. Raises `InputError` if fewer than `count` units can be cut.

    >>> import secateur
    >>> graph = secateur.trace(torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(3))), torch.zeros(1, 4))
    >>> scores = {"0": torch.tensor([4.0, 1.0, 3.0, 2.0]), "1": torch.tensor([0.1, 0.1, 9.0, 9.0])}
    >>> lowest(graph, scores, 3)
    {'0': [1], '1': [0, 1]}
    """
    asked = [(float(scores[name][unit]), name, unit) for name, unit in _asked(graph, scores, least)]
    if count > len(asked):
        raise InputError(
            f"{count} units are to be cut, but only {len(asked)} of {units_of(graph)} can be\n"
            f"give fewer: each layer keeps {least} or more"
        )
    gone = {(name, unit) for _, name, unit in sorted(asked, key=lambda one: one[0])[:count]}
    found = {axis.name: [unit for unit in range(axis.size) if (axis.name, unit) in gone] for axis in graph.axes}
    return {name: units for name, units in found.items() if units}


def _asked(graph: Graph, scores: Mapping[str, Tensor], least: int) -> list[tuple[str, int]]:
    """Return all units except the best of each axis, in order."""
    found = []
    for axis in graph.axes:
        best = torch.argsort(scores[axis.name], descending=True, stable=True)[: max(least, axis.least)].tolist()
        found += [(axis.name, unit) for unit in range(axis.size) if unit not in set(best)]
    return found


__all__ = ["lowest", "units_of"]
