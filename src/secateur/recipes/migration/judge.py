"""Whether a model that another library cut computes what the original does with the cut units silenced.

Which units went is read off the weights: they are random, so every number says which element of which parameter it was.
Said as a plan of ours, the cut is then proved like one of ours, by `secateur.verify` in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import secateur
from secateur import Graph, PruningError, Verification
from secateur.anatomy.slots import slots
from secateur.graph.parts import PrunableAxis
from secateur.terms import find, positions

Places = Mapping[str, Sequence[Sequence[int]]]
"""The name of a tensor -> what stayed of each of its dimensions."""

Outputs = Callable[[Any], Any]


class NoPlan(PruningError):
    """What went is no set of whole units, so no silenced original computes the same."""


def judged(dense: nn.Module, small: nn.Module, example_inputs: Any, outputs: Outputs | None = None) -> Verification:
    """The laws on a cut of `dense` that was not made by us; both in float64.

    Raises `NoPlan` where what went is no set of units, and `PruningError` where the small model does not run.
    """
    graph, stayed = secateur.trace(dense, example_inputs, outputs=outputs), places(dense, small)
    plan = secateur.plan(graph, drop=dropped(graph, stayed))
    for name in plan.sites:
        for dim, wanted in enumerate(plan.positions(name)):
            if wanted is not None and name in stayed and list(wanted) != list(stayed[name][dim]):
                raise NoPlan(f"{name}[{dim}] lost other units than the layers around it")
    return secateur.verify(dense, small, plan, example_inputs, outputs=outputs)


def places(dense: nn.Module, small: nn.Module) -> Places:
    """What stayed of every floating tensor. Raises `NoPlan` for one that is no selection of rows and columns."""
    before, after = _floats(dense), _floats(small)
    if before.keys() != after.keys():
        raise NoPlan(f"{sorted(before.keys() ^ after.keys())[0]} is in one of the models only")
    return {name: _stayed(name, tensor, after[name]) for name, tensor in before.items()}


def _floats(model: nn.Module) -> dict[str, Tensor]:
    return {slot.name: slot.tensor.detach() for slot in slots(model) if slot.tensor.is_floating_point()}


def _stayed(name: str, before: Tensor, after: Tensor) -> list[list[int]]:
    if before.dim() != after.dim() or not after.numel():
        raise NoPlan(f"{name} was {tuple(before.shape)} and is {tuple(after.shape)}")
    if before.shape == after.shape:
        return [list(range(n)) for n in before.shape]
    values, order = before.flatten().sort()
    found = torch.searchsorted(values, after.contiguous()).clamp_max(len(values) - 1)
    if not torch.equal(values[found], after):
        raise NoPlan(f"{name} holds numbers that the original does not")
    lines = [
        along.movedim(dim, 0).reshape(along.shape[dim], -1)
        for dim, along in enumerate(torch.unravel_index(order[found], before.shape))
    ]
    if any(bool((line != line[:, :1]).any()) for line in lines):
        raise NoPlan(f"{name} is no selection of rows and columns")
    return [line[:, 0].tolist() for line in lines]


def dropped(graph: Graph, stayed: Places) -> dict[str, list[int]]:
    """The units of every axis that are gone."""
    found = {axis.name: _gone(graph, axis, stayed) for axis in graph.axes}
    return {name: units for name, units in found.items() if units}


def _gone(graph: Graph, axis: PrunableAxis, stayed: Places) -> list[int]:
    """As the first site says; whether the others say the same is asked of the plan."""
    sites = [(use.name, use.dim) for use in axis.sites if use.name in stayed]
    # Where the axis is all of a dimension, nothing has to be worked out.
    sites.sort(key=lambda site: find(graph.sites[site[0]].dims[site[1]]) is not axis.term)
    return _gone_at(graph, axis, *sites[0], stayed) if sites else []


def _gone_at(graph: Graph, axis: PrunableAxis, name: str, dim: int, stayed: Places) -> list[int]:
    """A unit is gone where none of its own positions stayed; those of other axes in the same dimension do not count."""
    term, left = find(graph.sites[name].dims[dim]), set(stayed[name][dim])
    others = set(positions(term, {axis.term: ()}))
    return [u for u in range(axis.size) if not (set(positions(term, {axis.term: (u,)})) - others) & left]


__all__ = ["NoPlan", "dropped", "judged", "places"]
