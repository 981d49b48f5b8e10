"""Parameters, buffers and numbers that several places of a network read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets.parts import Parts
from nets.table import IDS, TOKENS, net


@net(
    "shared_config",
    [TOKENS],
    axes={
        "blocks.0.wide[0]": 4,
        "blocks.0.wide[1]": 3,
        "blocks.0.out": 6,
        "blocks.1.wide[0]": 4,
        "blocks.1.wide[1]": 3,
    },
    params=2 * (6 * 12 + 12 + 12 * 6 + 6),
    macs=10 * 2 * 2 * 6 * 12,
)
def shared_config() -> nn.Module:
    """One config object for all layers, which read their head counts and sizes from it."""

    def block(self: Any, x: Tensor) -> Tensor:
        heads = self.wide(x).view(*x.shape[:-1], self.config.heads, self.config.text["sizes"][0])
        return self.out(heads.relu().reshape(*x.shape[:-1], self.config.heads * self.config.text["sizes"][0]))

    def run(self: Any, x: Tensor) -> Tensor:
        for layer in self.blocks:
            x = layer(x)
        return x

    config = SimpleNamespace(heads=4, text={"sizes": [3]}, layers=2)
    parts = [Parts(block, wide=nn.Linear(6, 12), out=nn.Linear(12, 6), config=config) for _ in range(2)]
    return Parts(run, blocks=nn.ModuleList(parts), config=config)


@net(
    "weights_in_a_list",
    [TOKENS],
    axes={"a": 8, "b": 7},
    params=6 * 8 + 8 * 7 + 7 * 5,
    macs=10 * (6 * 8 + 8 * 7 + 7 * 5),
)
def weights_in_a_list() -> nn.Module:
    """Parameters that `forward` reads from a list next to the module's own tables."""

    def run(self: Any, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = F.linear(x.relu(), weight)
        return x

    layers = {name: nn.Parameter(torch.randn(shape)) for name, shape in {"a": (8, 6), "b": (7, 8), "c": (5, 7)}.items()}
    return Parts(run, **layers, weights=list(layers.values()))


@net(
    "tied_embedding",
    [IDS],
    axes={"embed": 6, "a": 8},
    frozen={"embed.weight[0]": "embedding rows are chosen by data"},
    params=7 * 6 + 3 * 6 + (6 * 8 + 8) + (8 * 6 + 6),
    macs=6 * (6 * 8 + 8 * 6 + 6 * 7),
)
def tied_embedding() -> nn.Module:
    """Token and position embeddings; the token table is also the last layer."""

    def run(self: Any, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.place[: ids.shape[1]]
        x = x + self.b(self.a(x).relu())
        return x @ self.embed.weight.t()

    embed, place = nn.Embedding(7, 6), nn.Parameter(torch.randn(3, 6))
    return Parts(run, embed=embed, place=place, a=nn.Linear(6, 8), b=nn.Linear(8, 6))


@net(
    "shared",
    [TOKENS],
    axes={"a": 8, "bias": 10},
    params=(6 * 8 + 8) + (8 * 10 + 10) + (10 * 8 + 8) + (8 * 5 + 5),
    macs=10 * (6 * 8 + 2 * (8 * 10 + 10 * 8) + 8 * 5),
)
def shared() -> nn.Module:
    """One block under two names, and its bias under a third."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        x = self.down(self.up(x).relu())
        return self.c(self.down(self.again(x).relu()))

    up = nn.Linear(8, 10)
    return Parts(run, a=nn.Linear(6, 8), up=up, down=nn.Linear(10, 8), again=up, bias=up.bias, c=nn.Linear(8, 5))


@net(
    "followers",
    [TOKENS],
    axes={"a": 8},
    params=(6 * 8 + 8) + (8 * 5 + 5),
    macs=10 * (6 * 8 + 8 * 5),
)
def followers() -> nn.Module:
    """A buffer and a plain tensor attribute of the size of a layer."""

    def run(self: Any, x: Tensor) -> Tensor:
        return self.c((self.a(x) - self.buffer_mean) * self.gain[None])

    buffers = {"buffer_mean": torch.randn(8), "gain": torch.randn(1, 8)}
    return Parts(run, a=nn.Linear(6, 8), c=nn.Linear(8, 5), **buffers)
