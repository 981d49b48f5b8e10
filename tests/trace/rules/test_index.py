"""Indexing by masks: how many are picked is data, so the trace runs on real tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
import secateur
from nets import Parts

IMAGE = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
Use = Callable[[Any, Tensor, Tensor], Tensor]


def overwritten(self: Any, y: Tensor, mask: Tensor) -> Tensor:
    y = y.clone()
    y[mask] = self.b(y)[mask].relu()
    return y


def erased(self: Any, y: Tensor, mask: Tensor) -> Tensor:
    y = y.clone()
    y[mask] = 0.5
    return y


USES: dict[str, Use] = {
    "picked": lambda self, y, mask: y[mask],
    "picked below": lambda self, y, mask: y[1, mask[1]],
    "picked twice": lambda self, y, mask: y[mask].permute(1, 0)[:, y[mask].sum(-1) > 0].t(),
    "overwritten": overwritten,
    "erased": erased,
}


@pytest.mark.parametrize("name", USES)
def test_channels_next_to_a_mask_can_be_cut(name: str) -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        return self.c(USES[name](self, self.a(x).relu().permute(0, 2, 3, 1), x[:, 0] > 0))

    net = laws.randomized(Parts(run, a=nn.Conv2d(3, 8, 1), b=nn.Linear(8, 8), c=nn.Linear(8, 5)))
    graph = secateur.trace(net, IMAGE)
    assert {axis.name: axis.size for axis in graph.axes} == {"a": 8}
    plan = secateur.plan(graph, "channels=0.6", importance="random")
    laws.check_verified(net, secateur.cut(net, plan), plan, IMAGE)
