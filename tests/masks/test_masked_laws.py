"""A masked model is a model: it is traced, planned and cut by the same laws, and its masks follow its weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import laws
import secateur
from nets import NETS
from secateur.anatomy.masked import worn
from secateur.base.names import plain_of
from secateur.graph.graph import Graph
from secateur.masks import mask

CUT = [name for name, net in NETS.items() if net.axes and name != "weights_in_a_list"]  # these are refused
EVERY = {
    "plain_cnn",
    "residual",
    "grouped",
    "transposed",
    "functional",
    "attention",
    "multihead",
    "rotary",
    "lstm",
    "shared",
}


def masked(name: str) -> nn.Module:
    model = laws.randomized(NETS[name].make())
    mask(model, 0.3, criterion="random", scope="layer")
    return model


@pytest.mark.parametrize("name", CUT)
def test_the_laws(name: str) -> None:
    model, inputs = masked(name), NETS[name].example()
    graph = secateur.trace(model, inputs)
    plan = secateur.plan(graph, "channels=0.6", importance="random")
    pruned = secateur.cut(model, plan)
    laws.check_verified(model, pruned, plan, inputs)
    laws.check_cost(pruned, plan, inputs)
    laws.check_purity(model, plan, inputs)
    if name in EVERY:
        laws.check_conservation(model, graph, plan, inputs)
        laws.check_one_graph(model, inputs)


@pytest.mark.parametrize("name", CUT)
def test_masking_changes_no_axis(name: str) -> None:
    """The same axes, with the masks among their sites."""
    plain, wearing = (secateur.trace(model, NETS[name].example()) for model in (NETS[name].make(), masked(name)))
    assert sites_of(plain) == sites_of(wearing)
    assert plain.totals.params == wearing.totals.params
    assert plain.total_macs == wearing.total_macs


def sites_of(graph: Graph) -> set[Any]:
    """Each axis by its size, what makes it inexact, and the parameters that it is in, by plain names."""
    return {
        (axis.size, bool(axis.inexact), frozenset((plain_of(u.name), u.dim) for u in axis.sites if not is_mask(u.name)))
        for axis in graph.axes
    }


def is_mask(name: str) -> bool:
    return name.endswith(".0.mask")


@pytest.mark.parametrize("name", CUT)
def test_masks_are_sliced_as_their_weights_are(name: str) -> None:
    """With numbers in place of weights and masks, both are told apart from zero in the same places after a cut."""
    model = masked(name)
    for one in worn(model).values():
        one.parameter.data.copy_(one.mask.mask)
    plan = secateur.plan(secateur.trace(model, NETS[name].example()), "channels=0.6", importance="random")
    small = worn(secateur.cut(model, plan))
    assert small
    assert all(torch.equal(one.parameter != 0, one.mask.mask != 0) for one in small.values())
