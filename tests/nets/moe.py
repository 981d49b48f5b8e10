"""Mixtures of experts: the experts of a token are chosen by data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nets.parts import Parts
from nets.table import net

EXPERTS = (6 * 12 + 12) + (12 * 4 + 4) + 2 * 4 * 12 * 8 + (12 * 5 + 5)


def routed(self: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = self.embed(x).relu()
    weight, chosen = self.router(x).softmax(-1).topk(self.best, -1)
    return x, weight / weight.sum(-1, keepdim=True), chosen


def experts(run: Callable[..., Any]) -> nn.Module:
    up, down = nn.Parameter(torch.randn(4, 8, 12)), nn.Parameter(torch.randn(4, 12, 8))
    layers = {"embed": nn.Linear(6, 12), "router": nn.Linear(12, 4), "fc": nn.Linear(12, 5)}
    return Parts(run, best=2, experts=4, up=up, down=down, **layers)


@net(
    "experts_by_weight",
    [(10, 6)],
    axes={"embed": 12, "router": 4, "up": 8, "down": 12},
    inexact=["router"],
    params=EXPERTS,
    macs=10 * (6 * 12 + 12 * 4 + 2 * 2 * 12 * 8 + 12 * 5),
)
def experts_by_weight() -> nn.Module:
    """The weights of the two experts of each token are gathered."""

    def run(self: Any, x: Tensor) -> Tensor:
        x, weight, chosen = routed(self, x)
        h = (self.up[chosen] @ x[:, None, :, None]).relu()
        y = (self.down[chosen] @ h).squeeze(-1) * weight[..., None]
        return self.fc(y.sum(1))

    return experts(run)


@net(
    "experts_by_gate",
    [(10, 6)],
    axes={"embed": 12, "router": 4, "up": 8, "down": 12},
    inexact=["router"],
    params=EXPERTS,
    macs=10 * (6 * 12 + 12 * 4 + 2 * 4 * 12 * 8 + 4 * 12 + 12 * 5),
)
def experts_by_gate() -> nn.Module:
    """Every expert runs; a gate that is scattered by the numbers of the chosen ones picks."""

    def run(self: Any, x: Tensor) -> Tensor:
        x, weight, chosen = routed(self, x)
        gate = x.new_zeros(x.shape[0], self.experts).scatter(1, chosen, weight)
        h = torch.einsum("td,ehd->teh", x, self.up).relu()
        return self.fc(torch.einsum("teh,edh,te->td", h, self.down, gate))

    return experts(run)
