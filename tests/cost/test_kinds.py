"""The table of target kinds: its rows, and the rows that it refuses or cannot count."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

import secateur
from secateur.cost.kinds import KINDS, Kind, add_kind
from secateur.cost.size_polynomials import SizePolynomial
from secateur.errors import FileError, InputError, TargetError
from secateur.graph.graph import Graph
from secateur.plan.parts import HEADINGS

X = torch.zeros(2, 3, 8, 8)


def convolutions(graph: Graph) -> SizePolynomial:
    """The weights of two-dimensional convolutions."""
    return graph.cost.sum_of((1, site.dims) for site in graph.sites.values() if len(site.dims) == 4)


def net() -> nn.Module:
    torch.manual_seed(0)
    convs = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.ReLU())
    return nn.Sequential(convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 4))


def test_the_table_is_as_it_was() -> None:
    assert list(KINDS) == ["channels", "params", "macs", "memory", "depth"]
    assert {kind.name: kind.heading for kind in KINDS.values() if kind.cost is not None} == HEADINGS


def test_a_kind_that_is_not_known_of_a_model() -> None:
    add_kind(Kind("toy", "toys", cost=lambda graph: None))
    try:
        plan = secateur.plan(secateur.trace(net(), X), "params=0.5")
        assert plan.after["toy"] is None
        assert "toys" not in str(plan)
        with pytest.raises(TargetError, match="how much toy this model has is not known"):
            secateur.plan(secateur.trace(net(), X), "toy=0.5")
    finally:
        del KINDS["toy"]


def test_shares_alone() -> None:
    add_kind(Kind("toy", "toys", counts=False, cost=convolutions))
    try:
        with pytest.raises(TargetError, match=r"target 'toy=3': toys take a share of up to 1\nwrite e\.g\. 'toy=0\.5'"):
            secateur.plan(secateur.trace(net(), X), "toy=3")
    finally:
        del KINDS["toy"]


@pytest.mark.parametrize("name", ["", "two words", "a=b", "a,b"])
def test_names_that_no_target_can_write(name: str) -> None:
    with pytest.raises(InputError, match="use an identifier"):
        Kind(name, "label")


@pytest.mark.parametrize("value", [-1, math.inf, math.nan, "3", True])
def test_totals_of_a_damaged_plan(value: object) -> None:
    add_kind(Kind("toy", "toys", cost=convolutions))
    try:
        text = secateur.plan(secateur.trace(net(), X), "toy=0.5").to_json()
    finally:
        del KINDS["toy"]
    data = json.loads(text)
    data["after"][3]["toy"][0] = value
    with pytest.raises(FileError, match=r"the plan counts .* toy after the cut"):
        secateur.Plan.from_json(json.dumps(data))
