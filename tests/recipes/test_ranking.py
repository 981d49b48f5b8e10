"""The lowest units of a whole network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import secateur
from secateur.errors import InputError
from secateur.graph.graph import Graph
from secateur.recipes.ranking import lowest, units_of

SCORES = {"0": torch.tensor([0.5, 0.1, 0.9, 0.2, 0.8, 0.7]), "2": torch.tensor([0.3, 0.3, 0.05, 0.6])}


def graph() -> Graph:
    net = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    return secateur.trace(net, torch.zeros(1, 3))


@pytest.mark.parametrize("count", range(7))
def test_no_unit_that_goes_scores_above_one_that_could_have_gone(count: int) -> None:
    found = lowest(graph(), SCORES, count)
    gone = [SCORES[name][unit].item() for name, units in found.items() for unit in units]
    best = {name: set(scores.argsort(descending=True)[:2].tolist()) for name, scores in SCORES.items()}
    stay = [
        scores[unit].item()
        for name, scores in SCORES.items()
        for unit in range(len(scores))
        if unit not in best[name] and unit not in found.get(name, ())
    ]
    assert len(gone) == count
    assert max(gone, default=0) <= min(stay, default=1)


def test_each_layer_keeps_some() -> None:
    found = lowest(graph(), {"0": torch.zeros(6), "2": torch.ones(4)}, 4, least=2)
    assert found == {"0": [2, 3, 4, 5]}


def test_the_plan_drops_what_was_found() -> None:
    plan = secateur.plan(graph(), drop=lowest(graph(), SCORES, 3))
    assert {name: axis.kept for name, axis in plan.axes.items()} == {"0": (0, 2, 4, 5), "2": (0, 1, 3)}


def test_more_than_can_go_is_refused() -> None:
    assert units_of(graph()) == 10
    with pytest.raises(
        InputError, match="7 units are to be cut, but only 6 of 10 can be\ngive fewer: each layer keeps 2 or more"
    ):
        lowest(graph(), SCORES, 7)
