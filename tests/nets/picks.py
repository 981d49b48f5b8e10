"""Channels that are picked by their position, and tables of positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nets.parts import Parts
from nets.table import IMAGE, net


@net(
    "picked",
    [IMAGE],
    axes={"buffer_one": 8, "a": 6, "buffer_two": 8, "b": 4},
    frozen={"stem.weight[0]": "selected by position", "widen.weight[0]": "selected by position"},
    params=(3 * 8 + 8) + 2 * 16 + (8 * 6 + 6) + (6 * 8 + 8) + (8 * 4 + 4) + (4 * 8 + 8) + 2 * 8 + (8 * 5 + 5),
    macs=64 * (3 * 8 + 8 * 6 + 6 * 8 + 8 * 4 + 4 * 8) + 8 * 5,
)
def picked() -> nn.Module:
    """Each block picks its own channels from a stream that is not pruned: by index_select and by an index."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.widen(self.a(self.one(x.index_select(1, self.buffer_one)).relu()).relu())
        x = x + self.wider(self.b(self.two(x[:, self.buffer_two]).relu()).relu())
        return self.fc(self.bn(x).relu().mean((2, 3)))

    a, b, widen, wider = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(6, 8, 1), nn.Conv2d(4, 8, 1)
    norms = {name: nn.BatchNorm2d(8) for name in ("one", "two", "bn")}
    lists = {"buffer_one": torch.tensor([7, 2, 0, 5, 1, 6, 4, 3]), "buffer_two": torch.arange(8)}
    layers = {"a": a, "b": b, "widen": widen, "wider": wider, "fc": nn.Linear(8, 5)}
    return Parts(run, stem=nn.Conv2d(3, 8, 1), **lists, **norms, **layers)


@net(
    "picked_of_cat",
    [IMAGE],
    axes={"buffer_list": 5},
    frozen={"stem.weight[0]": "selected by position", "a.weight[0]": "selected by position"},
    params=(3 * 8 + 8) + (8 * 4 + 4) + (5 * 5 + 5),
    macs=64 * (3 * 8 + 8 * 4 + 5 * 5),
)
def picked_of_cat() -> nn.Module:
    """A layer reads some of what several layers made, one of it twice."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.c(torch.cat([x, self.a(x)], 1).index_select(1, self.buffer_list))

    stem, a, c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(5, 5, 1)
    return Parts(run, stem=stem, a=a, c=c, buffer_list=torch.tensor([1, 4, 9, 11, 9]))


@net(
    "numbers_that_are_read",
    [IMAGE],
    axes={},
    frozen={"c.weight[1]": "buffer_list holds integers", "stem.weight[0]": "indexed by data"},
    params=(3 * 8 + 8) + (6 * 5 + 5),
    macs=64 * (3 * 8 + 6 * 5),
)
def numbers_that_are_read() -> nn.Module:
    """A list of positions that is computed with: its values are more than a choice of units."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.stem(x).index_select(1, self.buffer_list + 1)
        return self.c(x * self.buffer_list[:, None, None])

    return Parts(run, stem=nn.Conv2d(3, 8, 1), c=nn.Conv2d(6, 5, 1), buffer_list=torch.arange(6))


@net(
    "position_table",
    [IMAGE],
    axes={"patch": 8, "a": 10},
    frozen={"table[1]": "spatial"},
    params=(3 * 16 * 8 + 8) + 5 * 8 + 8 + (8 * 10 + 10) + (10 * 5 + 5),
    macs=4 * 3 * 16 * 8 + 5 * 8 * 10 + 10 * 5,
)
def position_table() -> nn.Module:
    """Patches, a class token in front, positions added."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.table
        return self.c(self.a(x).relu()[:, 0])

    patch, token, table = nn.Conv2d(3, 8, 4, stride=4), torch.randn(1, 1, 8), torch.randn(1, 5, 8)
    a, c = nn.Linear(8, 10), nn.Linear(10, 5)
    return Parts(run, patch=patch, token=nn.Parameter(token), table=nn.Parameter(table), a=a, c=c)


@net(
    "scattered_indices",
    [IMAGE],
    axes={"a": 4, "b": 4},
    params=2 * (3 * 4 + 4) + (8 * 5 + 5),
    macs=64 * 2 * 3 * 4 + 2 * 8 * 5,
)
def scattered_indices() -> nn.Module:
    """Rows and columns picked at once, put into a table of zeros, and picked again from both sides of the channels."""

    def run(self: Any, x: Tensor) -> Tensor:
        rows = torch.tensor([1, 3], device=x.device)
        table = torch.zeros(2, x.shape[0], self.a.weight.shape[0], device=x.device)
        table[:, 0] = self.a(x)[0, :, rows, rows].t()
        picked = self.b(x).permute(2, 0, 1, 3)[rows, :, :, rows]
        return self.c(torch.cat([table[rows - 2][:, 0], picked[:, 0]], -1))

    return Parts(run, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(3, 4, 1), c=nn.Linear(8, 5))
