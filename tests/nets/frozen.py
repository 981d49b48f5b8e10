"""Networks with dimensions that cannot be pruned, and the reasons."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets.parts import Parts
from nets.table import IMAGE, TOKENS, net


@torch.library.custom_op("nets::but_last", mutates_args=())
def but_last(x: Tensor) -> Tensor:
    """An op that has no rule: all but the last position of the last dimension."""
    return x[..., :-1].clone()


@but_last.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], x.shape[-1] - 1))


but_last.register_autograd(lambda context, grad: F.pad(grad, (0, 1)))


@net(
    "unknown_op",
    [TOKENS],
    axes={"a": 8},
    frozen={"b.weight[0]": "no rule for nets::but_last"},
    unknown=["nets::but_last"],
    params=(6 * 8 + 8) + (8 * 4 + 4) + (3 * 5 + 5),
    macs=10 * (6 * 8 + 8 * 4 + 3 * 5),
)
def unknown_op() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        return self.c(but_last(self.b(self.a(x).relu())))

    return Parts(run, a=nn.Linear(6, 8), b=nn.Linear(8, 4), c=nn.Linear(3, 5))


@net(
    "literal_view",
    [IMAGE],
    axes={"a": 6},
    frozen={"b.weight[0]": "reshape(..., 64) is written at"},
    params=(3 * 6 + 6) + (6 * 4 + 4) + (64 * 5 + 5),
    macs=16 * (3 * 6 + 6 * 4) + 64 * 5,
)
def literal_view() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).view(-1, 4 * 4 * 4))

    return Parts(run, a=nn.Conv2d(3, 6, 1, stride=2), b=nn.Conv2d(6, 4, 1), c=nn.Linear(64, 5))


@net(
    "squeezed",
    [TOKENS],
    axes={"a": 8, "b": 4},
    params=(6 * 8 + 8) + (8 * 4 + 4) + (4 * 5 + 5),
    macs=10 * (6 * 8 + 8 * 4 + 4 * 5),
)
def squeezed() -> nn.Module:
    """`squeeze()` would swallow an axis that is cut down to one unit."""

    def run(self: Any, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu())[:, :, None].squeeze())

    return Parts(run, a=nn.Linear(6, 8), b=nn.Linear(8, 4), c=nn.Linear(4, 5))


@net(
    "flag",
    [IMAGE, True],
    axes={"a": 8},
    frozen={"extra.weight[0]": "no call reached extra.weight"},
    unreached=["extra.weight", "extra.bias"],
    params=(3 * 8 + 8) + (8 * 5 + 5) + (8 * 4 + 4),
    macs=64 * (3 * 8 + 8 * 5),
)
def flag() -> nn.Module:
    """`forward(x, brief)` returns None for what it leaves out."""

    def run(self: Any, x: Tensor, brief: bool) -> dict[str, Tensor | None]:
        x = self.a(x).relu()
        return {"main": self.c(x), "extra": None if brief else self.extra(x)}

    return Parts(run, a=nn.Conv2d(3, 8, 1), c=nn.Conv2d(8, 5, 1), extra=nn.Conv2d(8, 4, 1))


@net(
    "unused",
    [TOKENS],
    axes={"a": 8},
    frozen={"spare[0]": "no call reached spare"},
    unreached=["spare"],
    params=(6 * 8 + 8) + (8 * 5 + 5) + 8 * 3,
    macs=10 * (6 * 8 + 8 * 5),
)
def unused() -> nn.Module:
    layers = {"a": nn.Linear(6, 8), "c": nn.Linear(8, 5)}
    return Parts(lambda self, x: self.c(self.a(x).relu()), spare=nn.Parameter(torch.randn(8, 3)), **layers)


@net(
    "auxiliary",
    [IMAGE],
    axes={"a": 8, "hidden": 6},
    frozen={"aux.weight[0]": "model output"},
    params=(3 * 8 + 8) + 16 + (8 * 6 + 6) + (6 * 4 + 4) + (8 * 5 + 5),
    macs=64 * (3 * 8 + 8 * 5),
)
def auxiliary() -> nn.Module:
    """A head that runs in training only."""

    def run(self: Any, x: Tensor) -> Any:
        x = self.bn(self.a(x)).relu()
        return (self.c(x), self.aux(self.hidden(x).relu())) if self.training else self.c(x)

    head = {"hidden": nn.Conv2d(8, 6, 1), "aux": nn.Conv2d(6, 4, 1)}
    return Parts(run, a=nn.Conv2d(3, 8, 1), bn=nn.BatchNorm2d(8), c=nn.Conv2d(8, 5, 1), **head)
