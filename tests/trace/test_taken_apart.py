"""Units that `forward` splits apart one by one are listed among the frozen, with a short reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur
from secateur.errors import TargetError

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def gated(x: Tensor) -> Tensor:
    return x * x.mean((-2, -1), keepdim=True).sigmoid()


class Apart(nn.Module):
    def __init__(self, use: Callable[[Any, Tensor], Tensor]):
        super().__init__()
        self.c1, self.c2, self.fc = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3), nn.Linear(8, 5)
        self.each = nn.Conv2d(1, 1, 1)
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.c2(self.use(self, self.c1(x).relu())).relu().mean((2, 3)))


BY_CAT: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "slices": lambda _, x: torch.cat([gated(x[:, i : i + 1]) for i in range(x.shape[1])], 1),
    "lists": lambda _, x: torch.cat([gated(x[:, [i]]) for i in range(x.shape[1])], 1),
    "narrow": lambda _, x: torch.cat([gated(x.narrow(1, i, 1)) for i in range(x.shape[1])], 1),
    "split": lambda _, x: torch.cat([gated(piece) for piece in x.split(1, 1)], 1),
    "chunk": lambda _, x: torch.cat([gated(piece) for piece in x.chunk(x.shape[1], 1)], 1),
    "tensor_split": lambda _, x: torch.cat([gated(piece) for piece in x.tensor_split(16, 1)], 1),
    "literal": lambda _, x: torch.cat([gated(x[:, i : i + 1]) for i in range(16)], 1),
    "a layer for each": lambda m, x: torch.cat([m.each(piece) for piece in x.split(1, 1)], 1),
}
BY_STACK: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "index": lambda _, x: torch.stack([gated(x[:, i]) for i in range(x.shape[1])], 1),
    "select": lambda _, x: torch.stack([gated(x.select(1, i)) for i in range(x.size(1))], 1),
    "unbind": lambda _, x: torch.stack([gated(piece) for piece in x.unbind(1)], 1),
    "iteration": lambda _, x: torch.stack([gated(piece) for piece in x.transpose(0, 1)], 1),
}


@pytest.mark.parametrize("way", BY_CAT)
def test_units_taken_apart_are_frozen_with_the_place(way: str) -> None:
    graph = secateur.trace(Apart(BY_CAT[way]), X)
    assert [axis.name for axis in graph.axes] == ["c2"]
    reasons = {(f.name, f.dim): f.reason for f in graph.frozen}
    if way != "a layer for each":
        told = re.escape("test_taken_apart.py:") + r"\d+.*\), joined by cat"
        assert re.search(f"split into single units .*{told}", reasons["c1.weight", 0])
        assert reasons["c2.weight", 1] == reasons["c1.weight", 0] == reasons["c1.bias", 0]
    else:
        assert "split into single units" in reasons["c1.weight", 0]
        assert "joined one by one" in reasons["c2.weight", 1]
    assert "split into single units" in str(graph)


@pytest.mark.parametrize("way", BY_STACK)
def test_units_that_are_stacked_again_are_frozen_with_the_place(way: str) -> None:
    reasons = {(f.name, f.dim): f.reason for f in secateur.trace(Apart(BY_STACK[way]), X).frozen}
    for place in (("c1.weight", 0), ("c2.weight", 1)):
        assert "test_taken_apart.py:" in reasons[place]


def test_why_puts_equal_parts_together() -> None:
    told = str(secateur.trace(Apart(BY_CAT["slices"]), X).why("c1"))
    assert "1 + 1" not in told
    assert "[0] 16  frozen: split into single units" in told
    some = Apart(lambda _, x: torch.cat([gated(x[:, :1]), gated(x[:, 1:2]), gated(x[:, 2:3]), x[:, 3:]], 1))
    assert "[0] 16  1 (x3) + c1" in str(secateur.trace(some, X).why("c1"))


def test_a_unit_by_itself_is_listed_with_the_others() -> None:
    graph = secateur.trace(Apart(lambda _, x: torch.cat([gated(x[:, :1]), x[:, 1:]], 1)), X)
    assert {axis.name: axis.size for axis in graph.axes} == {"c1": 15, "c2": 8}
    assert any(f.name == "c1.weight" and f.reason.startswith("one unit is taken by itself") for f in graph.frozen)


def test_a_target_out_of_reach_tells_what_holds_out() -> None:
    with pytest.raises(TargetError, match=r"c1.weight\[0\] is frozen: split into single units .*joined by cat"):
        secateur.prune(Apart(BY_CAT["slices"]), X, "params=0.2")
