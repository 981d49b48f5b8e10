"""Networks that split their channels, regroup them and concatenate them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets.parts import Parts
from nets.table import IMAGE, TOKENS, net


@net(
    "channel_shuffle",
    [IMAGE],
    axes={"a": 4, "b": 6},
    frozen={"a.weight[0]": "reshape(..., 3) is written at"},
    params=(3 * 12 + 12) + (12 * 6 + 6) + (6 * 5 + 5),
    macs=64 * (3 * 12 + 12 * 6 + 6 * 5),
)
def channel_shuffle() -> nn.Module:
    """Each of three groups keeps its own units, which are then interleaved."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        b, c, h, w = x.shape
        x = x.view(b, 3, c // 3, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.c(self.b(x.relu()))

    return Parts(run, a=nn.Conv2d(3, 12, 1), b=nn.Conv2d(12, 6, 1), c=nn.Conv2d(6, 5, 1))


@net(
    "c2f",
    [IMAGE],
    axes={"a[0]": 4, "a[1]": 4, "m": 4, "n": 4},
    params=(3 * 8 + 8) + 2 * (4 * 4 + 4) + (16 * 5 + 5),
    macs=64 * (3 * 8 + 2 * 4 * 4 + 16 * 5),
)
def c2f() -> nn.Module:
    """YOLO's chunk, append, cat."""

    def run(self: Any, x: Tensor) -> Tensor:
        ys = list(self.a(x).chunk(2, 1))
        ys.append(self.m(ys[-1]))
        ys.append(self.n(ys[-1]).relu())
        return self.c(torch.cat(ys, 1))

    return Parts(run, a=nn.Conv2d(3, 8, 1), m=nn.Conv2d(4, 4, 1), n=nn.Conv2d(4, 4, 1), c=nn.Conv2d(16, 5, 1))


@net(
    "gated",
    [IMAGE],
    axes={"a": 4, "b": 6},
    params=(3 * 8 + 8) + (4 * 12 + 12) + (6 * 5 + 5),
    macs=64 * (3 * 8 + 4 * 12 + 6 * 5),
)
def gated() -> nn.Module:
    """A gate by `chunk`, and one by `F.glu`: both halves keep the same units."""

    def run(self: Any, x: Tensor) -> Tensor:
        x, gate = self.a(x).chunk(2, dim=1)
        return self.c(F.glu(self.b(x * gate.sigmoid()), 1))

    return Parts(run, a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(4, 12, 1), c=nn.Conv2d(6, 5, 1))


@net(
    "shuffled_sum",
    [TOKENS],
    axes={"a": 4},
    frozen={"b.weight[0]": "unflatten(..., 3) is written at"},
    params=2 * (6 * 12 + 12) + (12 * 5 + 5),
    macs=10 * (2 * 6 * 12 + 12 * 5),
)
def shuffled_sum() -> nn.Module:
    """Interleaved groups meet a second layer, whose units are in the other order."""

    def run(self: Any, x: Tensor) -> Tensor:
        y = self.a(x)
        y = y.unflatten(-1, (3, y.shape[-1] // 3)).transpose(-1, -2).flatten(-2)
        return self.c(y + self.b(x))

    return Parts(run, a=nn.Linear(6, 12), b=nn.Linear(6, 12), c=nn.Linear(12, 5))


@net(
    "halved_heads",
    [TOKENS],
    axes={"a[0]": 3, "a[1]": 2, "a[2]": 2},
    params=(6 * 12 + 12) + (12 * 5 + 5),
    macs=10 * (6 * 12 + 12 * 5),
)
def halved_heads() -> nn.Module:
    """Heads whose channels are cut in two, as rotary embeddings do."""

    def run(self: Any, x: Tensor) -> Tensor:
        y = self.a(x).view(*x.shape[:-1], self.heads, -1)
        half = y.shape[-1] // 2
        return self.c(torch.cat([y[..., :half], y[..., half:].relu()], -1).flatten(-2))

    return Parts(run, heads=3, a=nn.Linear(6, 12), c=nn.Linear(12, 5))


@net(
    "groups_that_meet",
    [TOKENS],
    axes={"a": 4},
    params=(6 * 12 + 12) + (12 * 5 + 5),
    macs=10 * (6 * 12 + 12 * 5),
)
def groups_that_meet() -> nn.Module:
    """A softmax over groups: all groups keep the same units."""
    run = lambda self, x: self.c(self.a(x).unflatten(-1, (3, -1)).softmax(-2).flatten(-2))  # noqa: E731
    return Parts(run, a=nn.Linear(6, 12), c=nn.Linear(12, 5))


@net(
    "outer_product",
    [TOKENS],
    axes={"a[0]": 3, "a[1]": 4},
    params=(6 * 12 + 12) + (36 * 5 + 5),
    macs=10 * (6 * 12 + 36 * 5),
)
def outer_product() -> nn.Module:
    """Every head times every other, channel by channel: all heads keep the same channels."""

    def run(self: Any, x: Tensor) -> Tensor:
        y = self.a(x).unflatten(-1, (self.heads, -1))
        return self.c((y.unsqueeze(-2) * y.unsqueeze(-3)).flatten(-3))

    return Parts(run, heads=3, a=nn.Linear(6, 12), c=nn.Linear(36, 5))


@net(
    "groups_that_do_not_fit",
    [IMAGE],
    axes={"g": 2, "b": 4},
    frozen={"g.weight[1]": "its groups straddle the parts"},
    params=(3 * 6 + 6) + (2 * 6 + 6) + (6 * 4 + 4) + (4 * 5 + 5),
    macs=64 * (3 * 6 + 2 * 6 + 6 * 4 + 4 * 5),
)
def groups_that_do_not_fit() -> nn.Module:
    """Three groups of two across the boundary of two halves: what the layer reads stays, and its outputs go."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        half = x.shape[1] // 2
        return self.c(self.b(self.g(torch.cat([x[:, half:], x[:, :half]], 1))))

    g, b = nn.Conv2d(6, 6, 1, groups=3), nn.Conv2d(6, 4, 1)
    return Parts(run, a=nn.Conv2d(3, 6, 1), g=g, b=b, c=nn.Conv2d(4, 5, 1))


@net(
    "halves_of_unequal_parts",
    [(4, 6)],
    axes={"a[0]": 8, "a[1]": 4, "a[2]": 12},
    params=(6 * 24 + 24) + (24 * 5 + 5),
    macs=4 * (6 * 24 + 24 * 5),
)
def halves_of_unequal_parts() -> nn.Module:
    """Of two halves that stay equally long, one is made of two parts: all three keep the same share."""

    def run(self: Any, x: Tensor) -> Tensor:
        first, second = self.a(x).chunk(2, -1)
        first = torch.cat([first[:, : self.cut], first[:, self.cut :].relu()], -1)
        return self.fc(torch.cat([first, second], -1))

    return Parts(run, cut=8, a=nn.Linear(6, 24), fc=nn.Linear(24, 5))


@net(
    "narrowed",
    [TOKENS],
    axes={"b": 4},
    frozen={"a.weight[0]": "narrow(..., 8) is written at"},
    params=(6 * 8 + 8) + (8 * 8 + 8) + (4 * 5 + 5),
    macs=10 * (6 * 8 + 8 * 8 + 4 * 5),
)
def narrowed() -> nn.Module:
    """`narrow` over all units, as many as are written there, and over halves that are computed."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.b(self.a(x).narrow(-1, 0, 8).relu())
        half = x.shape[-1] // 2
        return self.fc(x.narrow(2, 0, half) * torch.narrow(x, 2, half, half))

    return Parts(run, a=nn.Linear(6, 8), b=nn.Linear(8, 8), fc=nn.Linear(4, 5))


@net(
    "private_sizes",
    [TOKENS],
    axes={"up": 8},
    params=(6 * 16 + 16) + (8 * 5 + 5),
    macs=10 * 6 * 16 + 10 * 8 * 5,
)
def private_sizes() -> nn.Module:
    """Sizes under private names, of the module and of its config."""

    def run(self: Any, x: Tensor) -> Tensor:
        gate, value = torch.split(self.up(x), self._width, -1)
        return self.fc((gate.sigmoid() * value).view(2, 5, self.config._inner))

    return Parts(run, up=nn.Linear(6, 16), fc=nn.Linear(8, 5), _width=8, config=SimpleNamespace(_inner=8))
