from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import secateur
from secateur.errors import PruningError
from secateur.proof.path import walks_alike

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """width: how many units; steps: how often the activation runs; best: whether values pick the output."""

    def __init__(self, width: int = 8, *, steps: int = 1, best: bool = False):
        super().__init__()
        self.a, self.b = nn.Linear(4, width), nn.Linear(width, 2)
        self.steps, self.best = steps, best

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        for _ in range(self.steps):
            x = x.relu()
        return x[(x[:, 0] > 0).nonzero()[:, 0]] if self.best else self.b(x)


def test_a_cut_model_walks_like_the_original() -> None:
    graph = secateur.trace(Net(), X)
    assert walks_alike(graph, secateur.cut(Net(), secateur.plan(graph, "channels=0.5")), X, None)


def test_other_ops_are_refused_with_the_first_that_differs() -> None:
    graph = secateur.trace(Net(), X)
    with pytest.raises(PruningError, match=r"takes another path: op \d+ was .*linear.*, is .*relu"):
        walks_alike(graph, Net(5, steps=2), X, None)


def test_a_model_that_does_not_run_is_refused() -> None:
    graph = secateur.trace(Net(), X)
    broken = Net()
    broken.b = nn.Linear(7, 2)
    with pytest.raises(PruningError, match=r"(?s)the pruned model does not run: .*\n.*Select\(protect="):
        walks_alike(graph, broken, X, None)


def test_where_values_decide_another_path_says_nothing() -> None:
    graph = secateur.trace(Net(best=True), X)
    assert not walks_alike(graph, Net(best=True, steps=2), X, None)
