"""Networks that reshape with einops, which looks up the recipe of every call by the shape of its operand."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import einsum, pack, rearrange, reduce, repeat, unpack
from einops.layers.torch import EinMix, Rearrange, Reduce
from torch import Tensor, nn

from nets.parts import Parts
from nets.table import IMAGE, TOKENS, net


@net(
    "einops_attention",
    [TOKENS],
    axes={"embed": 12, "qkv[0]": 3, "qkv[1]": 4, "qkv[2]": 4},
    params=(6 * 12 + 12) + (12 * 36 + 36) + (12 * 12 + 12) + (12 * 5 + 5),
    macs=10 * (6 * 12 + 12 * 36 + 12 * 12 + 12 * 5) + 2 * 2 * 5 * 5 * 12,
)
def einops_attention() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        y = rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")
        return self.fc(x + self.proj(y))

    embed, qkv, proj, fc = nn.Linear(6, 12), nn.Linear(12, 36), nn.Linear(12, 12), nn.Linear(12, 5)
    return Parts(run, heads=3, embed=embed, qkv=qkv, proj=proj, fc=fc)


@net(
    "einops_patches",
    [IMAGE],
    axes={"embed": 8, "mix": 10},
    params=(48 * 8 + 8) + 8 + (8 * 10 + 10) + (10 * 5 + 5),
    macs=4 * 48 * 8 + 5 * 8 * 10 + 10 * 5,
)
def einops_patches() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.embed(self.patches(x))
        x = torch.cat([repeat(self.token, "d -> b 1 d", b=x.shape[0]), x], 1)
        return self.fc(reduce(self.mix(x).relu(), "b n d -> b d", "mean"))

    patches = Rearrange("b c (h p) (w q) -> b (h w) (p q c)", p=4, q=4)
    token = nn.Parameter(torch.randn(8))
    return Parts(run, patches=patches, embed=nn.Linear(48, 8), token=token, mix=nn.Linear(8, 10), fc=nn.Linear(10, 5))


@net(
    "einops_einsum",
    [TOKENS],
    axes={"w": 10, "a": 8},
    params=(6 * 8 + 8) + 8 * 10 + (10 * 5 + 5),
    macs=10 * (6 * 8 + 8 * 10 + 10 * 5),
)
def einops_einsum() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        return self.fc(einsum(self.a(x).tanh(), self.w, "batch n inner, outer inner -> batch n outer").relu())

    return Parts(run, a=nn.Linear(6, 8), w=nn.Parameter(torch.randn(10, 8)), fc=nn.Linear(10, 5))


@net(
    "einops_pack",
    [TOKENS],
    axes={"a": 8, "b": 4, "mix": 10},
    params=(6 * 8 + 8) + (6 * 4 + 4) + (12 * 10 + 10) + (10 * 5 + 5),
    macs=10 * (6 * 8 + 6 * 4 + 12 * 10 + 10 * 5),
)
def einops_pack() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        both, _ = pack([self.a(x).relu(), self.b(x).relu()], "b n *")
        flat, shapes = pack([self.mix(both).relu()], "* d")
        return unpack(self.fc(flat), shapes, "* d")[0]

    return Parts(run, a=nn.Linear(6, 8), b=nn.Linear(6, 4), mix=nn.Linear(12, 10), fc=nn.Linear(10, 5))


@net(
    "einops_einmix",
    [TOKENS],
    axes={"0": 8, "2": 10},
    params=(6 * 8 + 8) + (8 * 10 + 10) + (10 * 5 + 5),
    macs=10 * (6 * 8 + 8 * 10 + 10 * 5),
)
def einops_einmix() -> nn.Module:
    mix = EinMix("b n c -> b n d", weight_shape="c d", bias_shape="d", c=8, d=10)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), mix, nn.ReLU(), nn.Linear(10, 5))


@net(
    "einops_pooling",
    [IMAGE],
    axes={"0": 8, "3": 6},
    params=(3 * 8 * 9 + 8) + (8 * 6 * 9 + 6) + (24 * 5 + 5),
    macs=3 * 8 * 9 * 64 + 8 * 6 * 9 * 4 + 24 * 5,
)
def einops_pooling() -> nn.Module:
    pool = Reduce("b c (h 2) (w 2) -> b c h w", "max")
    first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3)
    return nn.Sequential(first, nn.ReLU(), pool, second, nn.ReLU(), Rearrange("b c h w -> b (c h w)"), nn.Linear(24, 5))
