"""What masks make entirely zero can be cut: the law, on every network of the table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import laws
import secateur
from nets import NETS
from secateur.calls import Call
from secateur.graph import Graph, PrunableAxis
from secateur.masks import mask, masks_of
from secateur.masks.wearing import worn
from secateur.replay import in_float64
from secateur.terms import positions

CUT = [name for name, net in NETS.items() if net.axes and name != "weights_in_a_list"]  # these are refused


def masked(name: str) -> nn.Module:
    """A network of the table with random weights, half of which are masked, and whole units of every axis too."""
    net = NETS[name]
    model = laws.randomized(net.make())
    mask(model, 0.5, criterion="random", scope="layer")
    graph = secateur.trace(model, net.example())
    for axis in graph.axes:
        silence(graph, axis, sorted({1 % axis.size, axis.size // 2}))
    return model


def silence(graph: Graph, axis: PrunableAxis, units: list[int]) -> None:
    """Mask all slices of these units that masks can reach."""
    found = {id(one.parameter): one.mask.mask for one in worn(graph.model).values()}
    tensors = dict(graph.model.named_parameters())
    for use in axis.sites:
        if id(tensors.get(use.name)) in found:
            term, others = graph.sites[use.name].dims[use.dim], [i for i in range(axis.size) if i not in units]
            stay = positions(term, {axis.term: others if axis.outer is None else [others] * axis.outer.n})
            gone = torch.tensor(sorted(set(range(term.n)).difference(stay)), dtype=torch.long)
            found[id(tensors[use.name])].index_fill_(use.dim, gone, 0)


def double(call: Call) -> Call:
    return call.map(lambda t: t.double() if t.is_floating_point() else t)


def difference(model: nn.Module, small: nn.Module, inputs: Any) -> float:
    call = double(Call.of(inputs))
    pairs = zip(laws.outputs(in_float64(model), call), laws.outputs(in_float64(small), call), strict=True)
    return max(float((a - b).norm() / a.norm().clamp_min(1e-300)) for a, b in pairs if a.is_floating_point())


@pytest.mark.parametrize("name", CUT)
def test_cutting_what_is_dead_changes_nothing(name: str) -> None:
    model, inputs = masked(name), NETS[name].example()
    plan = masks_of(model).plan(inputs)
    small = secateur.cut(model, plan)
    assert difference(model, small, inputs) < 1e-9
    assert worn(small).keys() == worn(model).keys()
