"""Networks of matrix products other than a plain linear layer."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets.parts import Parts
from nets.table import TOKENS, net


@net(
    "bilinear",
    [TOKENS],
    axes={"a": 8, "b": 7, "bi": 9},
    params=(6 * 8 + 8) + (6 * 7 + 7) + (9 * 8 * 7 + 9) + (9 * 5 + 5),
    macs=10 * (6 * 8 + 6 * 7 + 9 * 8 * 7 + 9 * 5),
)
def bilinear() -> nn.Module:
    run = lambda self, x: self.fc(self.bi(self.a(x).relu(), self.b(x).sigmoid()))  # noqa: E731
    return Parts(run, a=nn.Linear(6, 8), b=nn.Linear(6, 7), bi=nn.Bilinear(8, 7, 9), fc=nn.Linear(9, 5))


@net(
    "prototypes",
    [TOKENS],
    axes={"a": 8},
    params=(6 * 8 + 8) + 4 * 8 + (8 * 5 + 5),
    macs=10 * (6 * 8 + 8 * 5),
)
def prototypes() -> nn.Module:
    """Distances and cosines between tokens and the rows of a table."""

    def run(self: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.a(x).relu()
        near = F.cosine_similarity(x[:, :, None], self.prototypes, dim=-1)
        return torch.cdist(x, self.prototypes[None]), near, self.fc(x)

    table = nn.Parameter(torch.randn(4, 8))
    return Parts(run, a=nn.Linear(6, 8), prototypes=table, fc=nn.Linear(8, 5))


@net(
    "scaled_sums",
    [TOKENS],
    axes={"a": 8},
    params=2 * (6 * 8 + 8) + (40 * 5 + 5),
    macs=10 * 2 * 6 * 8 + 2 * 40 * 5,
)
def scaled_sums() -> nn.Module:
    """`torch.add` with a factor, and a flatten by `math.prod`."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = torch.add(self.a(x), self.b(x), alpha=2).relu()
        return self.fc(x.reshape(x.shape[0], math.prod(x.shape[1:])))

    return Parts(run, a=nn.Linear(6, 8), b=nn.Linear(6, 8), fc=nn.Linear(40, 5))


@net(
    "einsum",
    [TOKENS],
    axes={"a": 8, "mix[0]": 4, "mix[1]": 3},
    params=6 * 8 + 8 * 4 * 3 + 12 * 5,
    macs=10 * (6 * 8 + 8 * 12 + 12 * 5),
)
def einsum() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = torch.einsum("bni,ij->bnj", x, self.a).relu()
        x = torch.einsum("bnc,chd->bnhd", x, self.mix).relu()
        return torch.einsum("bnk,ko->bno", x.flatten(2), self.out)

    shapes = {"a": (6, 8), "mix": (8, 4, 3), "out": (12, 5)}
    return Parts(run, **{name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()})
