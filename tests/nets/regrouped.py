"""Grouped convolutions whose groups straddle the parts of a concatenation, or read shuffled channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nets.parts import Parts
from nets.table import IMAGE, net

STRADDLED = "its groups straddle the parts of its channels"


def shuffle(x: Tensor, groups: int) -> Tensor:
    b, c, h, w = x.shape
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


@net(
    "straddling_groups",
    [IMAGE],
    axes={"a[0]": 2, "a[1]": 4, "g": 3},
    frozen={"g.weight[0]": STRADDLED},
    params=(3 * 8 + 8) + (3 * 10 + 10) + (9 * 6 + 9) + (9 * 5 + 5),
    macs=64 * (3 * 8 + 3 * 10 + 9 * 6 + 9 * 5),
)
def straddling_groups() -> nn.Module:
    """Three groups of 6 channels, which are those of two layers, 8 and 10: 8 = 6 + 2, 10 = 4 + 6."""

    def run(self: Any, x: Tensor) -> Tensor:
        return self.c(self.g(torch.cat([self.a(x), self.b(x)], 1)).relu())

    g = nn.Conv2d(18, 9, 1, groups=3)
    return Parts(run, a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(3, 10, 1), g=g, c=nn.Conv2d(9, 5, 1))


@net(
    "straddling_grouped_groups",
    [IMAGE],
    axes={"a[0]": 4, "a[1]": 4, "a[2]": 4, "b": 8, "f": 4},
    frozen={"f.weight[0]": STRADDLED},
    params=(3 * 12 + 12) + (3 * 24 + 24) + (24 * 8 + 24) + (12 * 12 + 12) + (12 * 5 + 5),
    macs=64 * (3 * 12 + 3 * 24 + 24 * 8 + 12 * 12 + 12 * 5),
)
def straddling_grouped_groups() -> nn.Module:
    """The groups of a layer straddle those of another: 12 + 24 channels, the latter 3 x 8, are read as 3 x 12."""

    def run(self: Any, x: Tensor) -> Tensor:
        return self.c(self.f(torch.cat([self.a(x), self.g(self.b(x).relu())], 1)).relu())

    b, g, f = nn.Conv2d(3, 24, 1), nn.Conv2d(24, 24, 1, groups=3), nn.Conv2d(36, 12, 1, groups=3)
    return Parts(run, a=nn.Conv2d(3, 12, 1), b=b, g=g, f=f, c=nn.Conv2d(12, 5, 1))


@net(
    "shuffled_groups",
    [IMAGE],
    axes={"a": 3, "g": 2},
    frozen={"a.weight[0]": STRADDLED},
    params=(3 * 30 + 30) + (30 * 9 + 30) + (6 * 10 + 6) + (6 * 5 + 5),
    macs=64 * (3 * 30 + 30 * 9 + 6 * 10 + 6 * 5),
)
def shuffled_groups() -> nn.Module:
    """Of 3 x 10 channels that are shuffled, each group reads 10: three runs of one of each, and one that stays."""

    def run(self: Any, x: Tensor) -> Tensor:
        return self.c(self.g(self.d(shuffle(self.a(x), 3))).relu())

    d, g = nn.Conv2d(30, 30, 3, padding=1, groups=30), nn.Conv2d(30, 6, 1, groups=3)
    return Parts(run, a=nn.Conv2d(3, 30, 1), d=d, g=g, c=nn.Conv2d(6, 5, 1))


@net(
    "shuffle_unit",
    [IMAGE],
    axes={"stem": 4, "a": 2, "g": 2},
    frozen={"e.weight[1]": STRADDLED},
    params=(3 * 12 + 12) + (4 * 21 + 21) + (9 * 21 + 21) + (7 * 24 + 24) + (12 * 6 + 6) + (6 * 5 + 5),
    macs=64 * (3 * 12 + 4 * 21) + 16 * (9 * 21 + 7 * 24 + 12 * 6 + 6 * 5),
)
def shuffle_unit() -> nn.Module:
    """A unit of ShuffleNet: grouped, shuffled, depthwise, grouped, then beside its pooled input and read in groups."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.e(self.d(shuffle(self.a(x).relu(), 3)))
        x = torch.cat([y, nn.functional.avg_pool2d(x, 3, 2, 1)], 1).relu()
        return self.c(self.g(x).relu())

    return Parts(
        run,
        stem=nn.Conv2d(3, 12, 1),
        a=nn.Conv2d(12, 21, 1, groups=3),
        d=nn.Conv2d(21, 21, 3, 2, 1, groups=21),
        e=nn.Conv2d(21, 24, 1, groups=3),
        g=nn.Conv2d(36, 6, 1, groups=3),
        c=nn.Conv2d(6, 5, 1),
    )
