"""Heads and the dimensions inside them are distinguished from channels, however attention is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from nets import Parts, graph_of

TOKENS = torch.zeros(2, 5, 6)
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.einsum("bhnd,bhmd->bhnm", q, k) / 2
    return torch.einsum("bhnm,bhmd->bhnd", torch.softmax(scores, -1), v)


def merged(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Heads and batch in one dimension, as older code has it; the mask sees them apart."""
    shape = q.shape
    scores = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2))
    scores = scores.view(*shape[:2], *scores.shape[1:]) + torch.zeros(5, 5)
    return torch.bmm(scores.softmax(-1).flatten(0, 1), v.flatten(0, 1)).view(shape)


WRITTEN: dict[str, Attend] = {
    "one function": F.scaled_dot_product_attention,
    "matmul": lambda q, k, v: (q @ k.transpose(-2, -1)).softmax(-1) @ v,
    "transposed": lambda q, k, v: (v.transpose(-2, -1) @ (k @ q.transpose(-2, -1)).softmax(-2)).transpose(-2, -1),
    "einsum": einsum,
    "merged": merged,
}


def net(attend: Attend) -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.fc(self.mlp(self.proj(attend(q, k, v).transpose(1, 2).flatten(2))).relu())

    qkv = {name: nn.Linear(6, 12) for name in "qkv"}
    return Parts(run, heads=3, **qkv, proj=nn.Linear(12, 8), mlp=nn.Linear(8, 8), fc=nn.Linear(8, 2))


def kinds(model: nn.Module) -> dict[str, tuple[int, str]]:
    return {axis.name: (axis.size, axis.kind) for axis in secateur.trace(model, TOKENS).axes}


@pytest.mark.parametrize("how", WRITTEN)
def test_heads_and_head_dims(how: str) -> None:
    assert kinds(net(WRITTEN[how])) == {
        "q[0]": (3, "head"),
        "q[1]": (4, "head_dim"),
        "v": (4, "head_dim"),
        "proj": (8, "channel"),
        "mlp": (8, "channel"),
    }


@pytest.mark.parametrize("attend", [lambda q, k, v: q * k * v, lambda q, k, v: (q @ k.transpose(-2, -1)) @ v])
def test_products_without_a_softmax_are_no_attention(attend: Attend) -> None:
    assert {kind for _, kind in kinds(net(attend)).values()} == {"channel"}


def test_a_softmax_over_something_else_makes_no_heads() -> None:
    """Two branches weighed channel by channel, between two products of matrices."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = torch.stack([x @ self.a, x @ self.b], 1)
        return self.fc((x.softmax(1) * x).sum(1))

    parts = {name: nn.Parameter(torch.randn(6, 8)) for name in "ab"}
    assert {kind for _, kind in kinds(Parts(run, fc=nn.Linear(8, 2), **parts)).values()} == {"channel"}


@pytest.mark.parametrize(
    "name", ["plain_cnn", "dense", "grouped", "channel_shuffle", "squeeze_excite", "einsum", "windows"]
)
def test_everything_else_holds_channels(name: str) -> None:
    assert {axis.kind for axis in graph_of(name).axes} == {"channel"}
