"""Networks with normalization layers, written as modules and by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nets.parts import Parts
from nets.table import IMAGE, TOKENS, net


class IBNorm(nn.Module):
    """Batch norm on the first channels, instance norm on the others; their channel counts are attributes."""

    def __init__(self, channels: int):
        super().__init__()
        self.batched = channels // 2
        self.single = channels - self.batched
        self.bn = nn.BatchNorm2d(self.batched)
        self.inorm = nn.InstanceNorm2d(self.single)

    def forward(self, x: Tensor) -> Tensor:
        first = self.bn(x[:, : self.batched, ...].contiguous())
        return torch.cat((first, self.inorm(x[:, self.batched :, ...].contiguous())), 1)


@net(
    "ibnorm",
    [IMAGE],
    axes={"a[0]": 3, "a[1]": 4},
    params=(3 * 9 * 7 + 7) + 2 * 3 + (7 * 5 + 5),
    macs=36 * (3 * 9 * 7 + 7 * 5),
)
def ibnorm() -> nn.Module:
    run = lambda self, x: self.c(self.norm(self.a(x)).relu())  # noqa: E731
    return Parts(run, a=nn.Conv2d(3, 7, 3), norm=IBNorm(7), c=nn.Conv2d(7, 5, 1))


@net(
    "layer_norm",
    [TOKENS],
    axes={"a": 8, "b": 12, "c": 9},
    inexact=["a", "b", "c"],
    params=(6 * 8 + 8) + 16 + (8 * 12 + 12) + 12 + (12 * 9 + 9) + 9 + (9 * 5 + 5),
    macs=10 * (6 * 8 + 8 * 12 + 12 * 9 + 9 * 5),
)
def layer_norm() -> nn.Module:
    """LayerNorm, RMSNorm, and the latter by hand."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.rms(self.b(self.ln(self.a(x)).relu()))
        x = self.c(x)
        x = x * (x.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt() * self.scale
        return self.fc(x)

    layers = {"a": nn.Linear(6, 8), "b": nn.Linear(8, 12), "c": nn.Linear(12, 9), "fc": nn.Linear(9, 5)}
    return Parts(run, ln=nn.LayerNorm(8), rms=nn.RMSNorm(12), scale=nn.Parameter(torch.randn(9)), **layers)


@net(
    "group_norm",
    [IMAGE],
    axes={"a[0]": 3, "a[1]": 4},
    inexact=["a[1]"],
    params=(3 * 12 + 12) + 24 + (12 * 5 + 5),
    macs=64 * (3 * 12 + 12 * 5),
)
def group_norm() -> nn.Module:
    a, c = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 5, 1)
    return Parts(lambda self, x: self.c(self.norm(self.a(x)).relu()), a=a, norm=nn.GroupNorm(3, 12), c=c)


@net(
    "group_norm_of_groups",
    [IMAGE],
    axes={"a[0]": 2, "a[1]": 2},
    inexact=["a[1]"],
    params=(3 * 8 + 8) + 16 + (8 * 5 + 5),
    macs=64 * (3 * 8 + 8 * 5),
)
def group_norm_of_groups() -> nn.Module:
    """The groups of a norm are made of two axes, of which one stays."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.norm(self.a(x))
        return self.c(x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2))

    return Parts(run, a=nn.Conv2d(3, 8, 1), norm=nn.GroupNorm(4, 8), c=nn.Conv2d(8, 5, 1))


@net(
    "mean_by_size",
    [TOKENS],
    axes={"a": 8},
    inexact=["a"],
    params=(6 * 8 + 8) + (8 * 5 + 5),
    macs=10 * (6 * 8 + 8 * 5),
)
def mean_by_size() -> nn.Module:
    """An RMS norm whose mean is a sum over a size."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.fc(x * (x.pow(2).sum(-1, keepdim=True) / x.shape[-1] + 1e-5).rsqrt())

    return Parts(run, a=nn.Linear(6, 8), fc=nn.Linear(8, 5))


@net(
    "group_across_parts",
    [IMAGE],
    axes={"a": 2, "b": 2},
    inexact=["a", "b"],
    params=(3 * 8 + 8) + (8 * 4 + 4) + 24 + (12 * 5 + 5),
    macs=64 * (3 * 8 + 8 * 4 + 12 * 5),
    frozen={"a.weight[0]": "a group of the norm reaches across two parts of a concatenation"},
)
def group_across_parts() -> nn.Module:
    """The skip connections of a U-Net: the first of two groups of 6 holds 6 of the 8 units of `a`, the second the rest.

    Both lose equally many of every two units.
    """

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        return self.c(self.norm(torch.cat((x, self.b(x)), 1)).relu())

    layers = {"a": nn.Conv2d(3, 8, 1), "b": nn.Conv2d(8, 4, 1), "c": nn.Conv2d(12, 5, 1)}
    return Parts(run, norm=nn.GroupNorm(2, 12), **layers)
