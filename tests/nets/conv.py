"""Networks of convolutions: plain, residual, dense, grouped, depthwise, transposed."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets.parts import Parts
from nets.table import IMAGE, net


@net(
    "plain_cnn",
    [IMAGE],
    axes={"conv1": 8, "conv2": 12},
    frozen={"conv1.weight[1]": "model input", "conv1.weight[2]": "kernel size", "fc.weight[0]": "model output"},
    params=(3 * 9 * 8 + 8) + 2 * 8 + (8 * 9 * 12 + 12) + (12 * 4 * 5 + 5),
    macs=64 * 3 * 9 * 8 + 4 * 8 * 9 * 12 + 12 * 4 * 5,
)
def plain_cnn() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.bn(self.conv1(x)).relu(), 2)
        return self.fc(self.conv2(x).relu().flatten(1))

    conv1, conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3)
    return Parts(run, conv1=conv1, bn=nn.BatchNorm2d(8), conv2=conv2, fc=nn.Linear(48, 5))


@net(
    "residual",
    [IMAGE],
    axes={"stem": 8, "a": 6, "b": 12},
    params=(3 * 8 + 8) + (8 * 9 * 6 + 6) + (6 * 9 * 12 + 12) + (8 * 12 + 12) + 2 * 12 + (12 * 5 + 5),
    macs=64 * 3 * 8 + 16 * 8 * 9 * 6 + 16 * 6 * 9 * 12 + 16 * 8 * 12 + 12 * 5,
)
def residual() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = self.b(self.a(x).relu()) + self.shortcut(x)
        return self.fc(self.bn(x).relu().mean((2, 3)))

    return Parts(
        run,
        stem=nn.Conv2d(3, 8, 1),
        a=nn.Conv2d(8, 6, 3, stride=2, padding=1),
        b=nn.Conv2d(6, 12, 3, padding=1),
        shortcut=nn.Conv2d(8, 12, 1, stride=2),
        bn=nn.BatchNorm2d(12),
        fc=nn.Linear(12, 5),
    )


@net(
    "dense",
    [IMAGE],
    axes={"stem": 8, "a": 4, "b": 6},
    frozen={"c.weight[0]": "model output"},
    params=(3 * 8 + 8) + (8 * 4 + 4) + 2 * 12 + (12 * 6 + 6) + (18 * 5 + 5),
    macs=64 * (3 * 8 + 8 * 4 + 12 * 6 + 18 * 5),
)
def dense() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = torch.cat([x, self.a(x)], 1)
        x = torch.cat([x, self.b(self.bn(x).relu())], 1)
        return self.c(x)

    stem, a, b, c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(12, 6, 1), nn.Conv2d(18, 5, 1)
    return Parts(run, stem=stem, a=a, bn=nn.BatchNorm2d(12), b=b, c=c)


@net(
    "grouped",
    [IMAGE],
    axes={"a[0]": 4, "a[1]": 3, "g": 2},
    params=(3 * 12 + 12) + (3 * 9 * 8 + 8) + (8 * 5 + 5),
    macs=64 * (3 * 12 + 3 * 9 * 8 + 8 * 5),
)
def grouped() -> nn.Module:
    """Four groups of three channels, then of two: whole groups are removed, or the same channels in every group."""
    a, g, c = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 8, 3, padding=1, groups=4), nn.Conv2d(8, 5, 1)
    return Parts(lambda self, x: self.c(self.g(self.a(x)).relu()), a=a, g=g, c=c)


@net(
    "depthwise",
    [IMAGE],
    axes={"a": 6, "d": 2},
    params=(3 * 6 + 6) + (6 * 9 + 6) + (9 * 12 + 12) + (12 * 5 + 5),
    macs=64 * (3 * 6 + 6 * 9 + 9 * 12 + 12 * 5),
)
def depthwise() -> nn.Module:
    """A plain depthwise layer, then one with two filters a channel."""

    def run(self: Any, x: Tensor) -> Tensor:
        return self.c(self.d(self.plain(self.a(x)).relu()).relu())

    plain, d = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 12, 3, padding=1, groups=6)
    return Parts(run, a=nn.Conv2d(3, 6, 1), plain=plain, d=d, c=nn.Conv2d(12, 5, 1))


@net(
    "transposed",
    [IMAGE],
    axes={"a": 8, "up[0]": 2, "up[1]": 3, "wide": 4},
    params=(3 * 8 + 8) + (8 * 6 * 4 + 6) + (6 * 4 * 4 + 8) + (8 * 5 + 5),
    macs=64 * 3 * 8 + 64 * 8 * 6 * 4 + 256 * 6 * 4 * 4 + 1024 * 8 * 5,
)
def transposed() -> nn.Module:
    """A transposed layer, then a grouped one (w: [g*i, o, *])."""
    up, wide = nn.ConvTranspose2d(8, 6, 2, stride=2), nn.ConvTranspose2d(6, 8, 2, stride=2, groups=2)
    return Parts(
        lambda self, x: self.c(self.wide(self.up(self.a(x)).relu())),
        a=nn.Conv2d(3, 8, 1),
        up=up,
        wide=wide,
        c=nn.Conv2d(8, 5, 1),
    )


@net(
    "one_and_three_dims",
    [(1, 3, 9), (1, 3, 4, 4, 4)],
    axes={"line": 8, "cube": 6},
    params=(3 * 3 * 8 + 8) + 2 * 8 + (8 * 5 + 5) + (3 * 27 * 6 + 6) + (6 * 5 + 5),
    macs=7 * 3 * 3 * 8 + 8 * 5 + 8 * 3 * 27 * 6 + 6 * 5,
)
def one_and_three_dims() -> nn.Module:
    def run(self: Any, x: Tensor, y: Tensor) -> Tensor:
        x = self.bn(self.line(x)).relu().mean(-1)
        return self.fc(x) + self.out(self.cube(y).relu().amax((2, 3, 4)))

    line, cube = nn.Conv1d(3, 8, 3), nn.Conv3d(3, 6, 3)
    return Parts(run, line=line, bn=nn.BatchNorm1d(8), fc=nn.Linear(8, 5), cube=cube, out=nn.Linear(6, 5))


@net(
    "functional",
    [IMAGE],
    axes={"kernel": 8, "hidden": 6},
    params=8 * 3 * 9 + 8 + 8 * 6 + 6 * 5,
    macs=36 * 3 * 9 * 8 + 8 * 6 + 6 * 5,
)
def functional() -> nn.Module:
    """No submodules: `F.conv2d`, `x @ parameter`, `F.linear`."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.kernel, self.shift).relu().mean((2, 3))
        return F.linear((x @ self.hidden).relu(), self.out)

    shapes = {"kernel": (8, 3, 3, 3), "shift": (8,), "hidden": (8, 6), "out": (5, 6)}
    return Parts(run, **{name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()})


@net(
    "squeeze_excite",
    [IMAGE],
    axes={"a": 8, "down": 4},
    params=(3 * 8 + 8) + (8 * 4 + 4) + (4 * 8 + 8) + (8 * 5 + 5),
    macs=64 * (3 * 8 + 8 * 5) + 2 * 8 * 4,
)
def squeeze_excite() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        gate = self.up(self.down(F.adaptive_avg_pool2d(x, 1)).relu())
        return self.c(x * gate.sigmoid())

    a, c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1)
    return Parts(run, a=a, down=nn.Conv2d(8, 4, 1), up=nn.Conv2d(4, 8, 1), c=c)


@net(
    "pixel_shuffle",
    [IMAGE],
    axes={"a": 2, "b": 3},
    params=(3 * 8 + 8) + (2 * 3 + 3) + (12 * 5 + 5),
    macs=64 * 3 * 8 + 256 * 2 * 3 + 64 * 12 * 5,
)
def pixel_shuffle() -> nn.Module:
    """Up: the four channels of a block are kept or removed together. Down: one channel becomes four."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = F.pixel_shuffle(self.a(x), 2)
        return self.c(F.pixel_unshuffle(self.b(x).relu(), 2))

    return Parts(run, a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(2, 3, 1), c=nn.Conv2d(12, 5, 1))


@net(
    "cifar_shortcut",
    [IMAGE],
    axes={"a": 4, "b": 6},
    frozen={"c.weight[0]": "padding"},
    params=(3 * 4 + 4) + (4 * 6 + 6) + (6 * 8 + 8) + (8 * 5 + 5),
    macs=64 * (3 * 4) + 16 * (4 * 6 + 6 * 8) + 8 * 5,
)
def cifar_shortcut() -> nn.Module:
    """A shortcut without weights: strided, with channels of zeros before and behind."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        y = self.c(self.b(x[:, :, ::2, ::2]).relu())
        return self.fc((y + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))).mean((2, 3)))

    return Parts(run, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 6, 1), c=nn.Conv2d(6, 8, 1), fc=nn.Linear(8, 5))


@net(
    "in_place",
    [IMAGE],
    axes={"a": 8},
    params=2 * (3 * 8 + 8) + 8 + (8 * 5 + 5),
    macs=64 * (2 * 3 * 8 + 8 * 5),
)
def in_place() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        y = self.a(x).relu_() * self.scale.view(1, -1, 1, 1)
        y += self.b(x)
        return self.c(y.clamp(max=3))

    parts = {"a": nn.Conv2d(3, 8, 1), "b": nn.Conv2d(3, 8, 1), "c": nn.Conv2d(8, 5, 1)}
    return Parts(run, scale=nn.Parameter(torch.randn(8)), **parts)


@net(
    "token_convs",
    [IMAGE],
    axes={"patch": 6, "up": 10, "fc1": 7},
    frozen={"patch.weight[2]": "kernel size", "down.weight[0]": "spatial"},
    params=(3 * 16 * 6 + 6) + 2 * 6 + (4 * 10 + 10) + (10 * 4 + 4) + (6 * 7 + 7) + (7 * 5 + 5),
    macs=4 * 3 * 16 * 6 + 6 * 4 * 10 * 2 + 4 * 6 * 7 + 7 * 5,
    inexact=["patch"],
)
def token_convs() -> nn.Module:
    """Convolutions with a kernel of 1 that mix tokens: channels lie where a picture has its places."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        return self.fc2(self.fc1(x).relu().mean(1))

    up, down = nn.Conv1d(4, 10, 1), nn.Conv1d(10, 4, 1)
    patch, norm = nn.Conv2d(3, 6, 4, stride=4), nn.LayerNorm(6)
    return Parts(run, patch=patch, norm=norm, up=up, down=down, fc1=nn.Linear(6, 7), fc2=nn.Linear(7, 5))
