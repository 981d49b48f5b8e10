"""Ops that few models use: what stays free, proved by both laws in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from secateur.errors import InputError

IDS = torch.tensor([[1, 2, 3], [4, 0, 6], [7, 8, 2]])
FLAT, OFFSETS = torch.tensor([1, 2, 3, 4, 0, 6, 7, 8]), torch.tensor([0, 3, 5])
VECTORS = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True)
class Case:
    """Parts by name, a function of them, what it is called with, and the axes that are free."""

    parts: Callable[[], dict[str, Any]]
    run: Callable[..., Any]
    inputs: tuple[Any, ...]
    axes: dict[str, int] = field(default_factory=dict)


class Net(nn.Module):
    def __init__(self, case: Case):
        super().__init__()
        self.run = case.run
        for name, part in case.parts().items():
            setattr(self, name, part)

    def forward(self, *args: Any) -> Any:
        return self.run(self, *args)


def bag(**options: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"bag": nn.EmbeddingBag(9, 8, **options), "out": nn.Linear(8, 2)}


def linears() -> dict[str, Any]:
    return {"a": nn.Linear(6, 8), "b": nn.Linear(6, 8), "out": nn.Linear(8, 2)}


def convs() -> dict[str, Any]:
    return {"a": nn.Conv2d(3, 8, 3, bias=False), "out": nn.Conv2d(8, 2, 1)}


class Bounded(nn.Linear):
    """As EEGNet has it: rows of bounded norm."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return F.linear(input, torch.renorm(self.weight, p=2, dim=0, maxnorm=0.5), self.bias)


def unpooled(m: Any, x: Tensor) -> Tensor:
    y, places = F.max_pool2d(m.a(x), 2, return_indices=True)
    return m.out(F.max_unpool2d(y, places, [2, 2]))


def crossed(m: Any, x: Tensor) -> Tensor:
    y, z = m.a(x), m.b(x)
    return m.out(torch.linalg.cross(torch.stack([y, z, y], -1), torch.stack([z, y, y], -1)).sum(-1))


AB, BAG = {"a": 8}, {"bag": 8}
CASES: dict[str, Case] = {
    "bag mean": Case(bag(mode="mean"), lambda m, i: m.out(m.bag(i)), (IDS,), BAG),
    "bag sum": Case(bag(mode="sum"), lambda m, i: m.out(m.bag(i)), (IDS,), BAG),
    "bag max": Case(bag(mode="max"), lambda m, i: m.out(m.bag(i)), (IDS,), BAG),
    "bag offsets": Case(bag(mode="max"), lambda m, i, o: m.out(m.bag(i, o)), (FLAT, OFFSETS), BAG),
    "bag last offset": Case(
        bag(include_last_offset=True), lambda m, i, o: m.out(m.bag(i, o)), (FLAT, torch.tensor([0, 3, 8])), BAG
    ),
    "bag padding": Case(bag(padding_idx=0), lambda m, i: m.out(m.bag(i)), (IDS,), BAG),
    "bag weights": Case(bag(mode="sum"), lambda m, i, w: m.out(m.bag(i, None, w)), (IDS, torch.rand(3, 3) + 0.5), BAG),
    "bag by torch": Case(
        bag(), lambda m, i, o: m.out(torch.embedding_bag(m.bag.weight, i, o)[0]), (FLAT, OFFSETS), BAG
    ),
    "renorm": Case(
        lambda: {"a": Bounded(6, 8), "out": Bounded(8, 2)}, lambda m, x: m.out(m.a(x).relu()), (VECTORS,), AB
    ),
    "renorm of features": Case(linears, lambda m, x: m.out(torch.renorm(m.a(x) + m.b(x), 2, 0, 0.5)), (VECTORS,), AB),
    "cross": Case(linears, crossed, (VECTORS,), AB),
    "max_unpool": Case(convs, unpooled, (IMAGES,), AB),
    "dist": Case(linears, lambda m, x: (torch.dist(m.a(x), m.b(x)), m.out(m.a(x))), (VECTORS,), AB),
    "pdist": Case(linears, lambda m, x: F.pdist(m.a(x)), (VECTORS,), AB),
    "addr": Case(
        lambda: {**linears(), "start": nn.Parameter(torch.rand(4, 8))},
        lambda m, x: m.out(torch.addr(m.start, x[:, 0], m.a(x)[0])),
        (VECTORS,),
        AB,
    ),
    "index_fill": Case(linears, lambda m, x: m.out(m.a(x).index_fill(0, torch.tensor([1]), 0.0)), (VECTORS,), AB),
    "mean square": Case(linears, lambda m, x: (F.mse_loss(m.a(x), m.b(x)), m.out(m.a(x))), (VECTORS,), AB),
    "sum of squares": Case(
        linears, lambda m, x: (F.mse_loss(m.a(x), m.b(x), reduction="sum"), m.out(m.a(x))), (VECTORS,), AB
    ),
    "squares": Case(linears, lambda m, x: m.out(F.mse_loss(m.a(x), m.b(x), reduction="none")), (VECTORS,), AB),
    "huber": Case(linears, lambda m, x: (F.huber_loss(m.a(x), m.b(x)), m.out(m.a(x))), (VECTORS,), AB),
    "entropy": Case(
        linears,
        lambda m, x: (F.binary_cross_entropy_with_logits(m.a(x), m.b(x).sigmoid()), m.out(m.a(x))),
        (VECTORS,),
        AB,
    ),
    "bucketize": Case(
        linears, lambda m, x: m.out(torch.bucketize(m.a(x), torch.linspace(-1, 1, 5)) * m.a(x)), (VECTORS,), AB
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_cut_is_right(name: str) -> None:
    case, net = CASES[name], Net(CASES[name]).eval()
    graph = secateur.trace(net, case.inputs)
    assert not graph.unknown
    assert {axis.name: axis.size for axis in graph.axes} == case.axes
    result = secateur.prune(net, case.inputs, "channels=0.5")
    found = secateur.verify(net, result.model, result.plan, case.inputs)
    assert found.passed, str(found)


def test_a_bag_that_is_rescaled_in_place_stays() -> None:
    net = Net(Case(bag(max_norm=1.0), lambda m, i: m.out(m.bag(i)), (IDS,)))
    assert any("max_norm" in f.reason for f in secateur.trace(net, IDS).frozen)


OPAQUE: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "inverse": (lambda m, x: torch.linalg.matrix_exp(m.a(x).t() @ m.b(x)), "decomposition"),
    "singular values": (lambda m, x: torch.linalg.svd(m.a(x))[1], "decomposition"),
    "take": (lambda m, x: torch.take(m.a(x), torch.tensor([0, 1])), "the position of a unit matters"),
    "classes": (lambda m, x: F.cross_entropy(m.a(x), torch.zeros(4, dtype=torch.long)), "classes by their index"),
    "drawn": (lambda m, x: torch.multinomial(m.a(x).sigmoid(), 2), "sampled by index"),
}


@pytest.mark.parametrize("name", OPAQUE)
def test_what_mixes_units_is_frozen_with_a_reason(name: str) -> None:
    run, reason = OPAQUE[name]
    net = Net(Case(linears, run, (VECTORS,)))
    graph = secateur.trace(net, VECTORS)
    assert not graph.unknown
    assert reason in next(f.reason for f in graph.frozen if f.name == "a.weight" and f.dim == 0)
    with pytest.raises(InputError, match="no prunable axis"):
        secateur.prune(net, VECTORS, "macs=0.5")
