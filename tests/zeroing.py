"""Masks that make whole units zero, and how far two models are apart in float64."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import laws
from secateur.anatomy.calls import Call
from secateur.anatomy.masked import worn
from secateur.graph.graph import Graph
from secateur.graph.parts import PrunableAxis
from secateur.proof.replay import in_float64
from secateur.terms import positions


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
