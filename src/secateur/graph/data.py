"""A Graph as plain data, and the share of the model that lies on each of its axes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from secateur.cost.kinds import counted
from secateur.graph.block_text import block_data
from secateur.graph.facts import Facts, covered
from secateur.graph.frozen_text import lesson
from secateur.graph.parts import PrunableAxis
from secateur.terms import Axis, axes

ROLES = ("output", "input", "scale", "shift", "statistic")


@dataclass(frozen=True)
class Shares:
    """The shares of the parameters and MACs that lie on each axis."""

    graph: Facts
    _macs: dict[Axis, int] = field(default_factory=dict)

    def params(self, axis: PrunableAxis) -> float:
        names = dict.fromkeys(use.name for use in axis.sites)
        sites = [self.graph.sites[name] for name in names]
        held = sum(math.prod(s.shape) * covered(s.dims, {axis.term}) for s in sites if s.kind == "parameter")
        return held / max(self.graph.params, 1)

    def macs(self, axis: PrunableAxis) -> float:
        return self._macs_by_axis.get(axis.term, 0.0) / max(self.graph.total_macs, 1)

    @cached_property
    def _macs_by_axis(self) -> dict[Axis, float]:
        live = {axis.term for axis in self.graph.axes}
        total: dict[Axis, float] = {}
        for macs in self.graph.macs:
            spent = macs.coefficient * math.prod(term.n for term in macs.terms)
            for axis in {axis for term in macs.terms for axis in axes(term)} & live:
                total[axis] = total.get(axis, 0.0) + spent * covered(macs.terms, {axis})
        return total


def as_dict(graph: Facts) -> dict[str, Any]:
    """Return a Graph as plain data for JSON: everything that `print(graph)` shows, in full.

    >>> import secateur, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    >>> data = as_dict(secateur.trace(net, torch.zeros(1, 4)))
    >>> data["params"], [axis["name"] for axis in data["axes"]], data["frozen"][0]["reason"]
    (58, ['0'], 'model input')
    """
    shares = Shares(graph)
    return {
        **overview(graph),
        "axes": [_axis_data(graph, axis, shares) for axis in graph.axes],
        "blocks": [block_data(block) for block in graph.blocks],
        "frozen": [{"name": f.name, "dim": f.dim, "reason": f.reason} for f in graph.frozen],
        "unreached": list(graph.unreached),
        "untrained": graph.diagnosis.untrained,
        "unknown": dict(graph.unknown),
        "lessons": {name: "\n".join(lesson(name, sample)) for name, sample in graph.diagnosis.samples.items()},
        "aliases": dict(graph.aliases),
    }


def overview(graph: Facts) -> dict[str, Any]:
    """Return the size of a model, and the shares of it that lie on a prunable axis."""
    return {
        "model": type(graph.model).__name__,
        **{kind.name: graph.total_of(kind.name) for kind in counted()},
        "coverage": {"params": graph.coverage.params, "macs": graph.coverage.macs},
    }


def _axis_data(graph: Facts, axis: PrunableAxis, shares: Shares) -> dict[str, Any]:
    return {
        "name": axis.name,
        "size": axis.size,
        "kind": axis.kind,
        "each_of": axis.outer.n if axis.outer is not None else None,
        "least": axis.least,
        "inexact": axis.inexact,
        "tied_to": [other.name for other in graph.groups[axis.group].axes if other is not axis],
        "params": shares.params(axis),
        "macs": shares.macs(axis),
        "sites": [{"name": use.name, "dim": use.dim, "role": use.role} for use in axis.sites],
    }
