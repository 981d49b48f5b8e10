from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import secateur
from secateur.anatomy.masked_names import plain, plain_name, plain_slots
from secateur.masks import mask


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), parametrizations.weight_norm(nn.Linear(8, 3)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0.parametrizations.weight.original", "0.weight"),
        ("0.parametrizations.weight.0.mask", None),
        ("0.bias", "0.bias"),
        ("1.parametrizations.weight.original", "1.parametrizations.weight.original"),
        ("0.parametrizations.weight.original0", "0.parametrizations.weight.original0"),
    ],
)
def test_only_what_wears_a_mask_has_another_name(name: str, expected: str | None) -> None:
    assert plain_name(name, {"0.weight"}) == expected


def test_places_are_those_of_the_model_without_masks() -> None:
    model = net()
    names = [slot.name for slot in plain_slots(model, ())]
    mask(model, 0.5, only="0")
    assert sorted(slot.name for slot in plain_slots(model, {"0.weight"})) == sorted(names)
    assert {slot.name for slot in plain_slots(model, ())} > {"0.parametrizations.weight.0.mask"}


def test_a_plan_of_a_masked_model_is_that_of_the_plain_one() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.zeros(1, 4)
    expected = secateur.plan(secateur.trace(model, x), drop={"0": [1, 2]})
    mask(model, 0.5, only="0")
    graph = secateur.trace(model, x)
    made = plain(secateur.plan(graph, drop={graph.axes[0].name: [1, 2]}), {"0.weight"})
    assert {name: made.positions(name) for name in made.sites} == {
        name: expected.positions(name) for name in expected.sites
    }
