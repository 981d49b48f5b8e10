"""Attention: fused and separate projections, shared key and value heads, rotary embeddings, windows."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets.parts import Parts
from nets.table import TOKENS, net


def _fused(self: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    b, n, c = x.shape
    return self.qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)


ATTENTION = (6 * 12 + 12) + (12 * 36 + 36) + (12 * 12 + 12) + (12 * 5 + 5)
THREE_HEADS = {
    "qkv.weight[0]": "no plan can satisfy the sizes at reshape at",
    "proj.weight[1]": "no plan can satisfy the sizes at reshape at",
}
ATTENTION_MACS = 10 * (6 * 12 + 12 * 36 + 12 * 12 + 12 * 5) + 2 * 2 * 5 * 5 * 12


@net(
    "attention",
    [TOKENS],
    axes={"embed": 12, "qkv[0]": 4, "qkv[1]": 4},
    frozen=THREE_HEADS,
    params=ATTENTION,
    macs=ATTENTION_MACS,
)
def attention() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = _fused(self, x)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        return self.fc(x + self.proj(y))

    embed, qkv, proj, fc = nn.Linear(6, 12), nn.Linear(12, 36), nn.Linear(12, 12), nn.Linear(12, 5)
    return Parts(run, heads=3, embed=embed, qkv=qkv, proj=proj, fc=fc)


@net(
    "attention_by_hand",
    [TOKENS],
    axes={"embed": 12, "qkv[0]": 4, "qkv[1]": 4},
    frozen=THREE_HEADS,
    params=ATTENTION,
    macs=ATTENTION_MACS,
)
def attention_by_hand() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = _fused(self, x)
        y = (q @ k.transpose(-2, -1) * self.scale).softmax(-1) @ v
        return self.fc(x + self.proj(y.transpose(1, 2).flatten(2)))

    embed, qkv, proj, fc = nn.Linear(6, 12), nn.Linear(12, 36), nn.Linear(12, 12), nn.Linear(12, 5)
    return Parts(run, heads=3, scale=0.5, embed=embed, qkv=qkv, proj=proj, fc=fc)


@net(
    "fused_by_head",
    [TOKENS],
    axes={"embed": 12, "qkv[0]": 3, "qkv[1]": 4, "qkv[2]": 4},
    params=(6 * 12 + 12) + (12 * 36 + 36) + (12 * 5 + 5),
    macs=10 * (6 * 12 + 12 * 36 + 12 * 5) + 2 * 2 * 5 * 5 * 12,
)
def fused_by_head() -> nn.Module:
    """Every head holds q, k and v side by side; v keeps its own units."""

    def run(self: Any, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        qkv = self.qkv(self.embed(x)).view(b, n, self.heads, 3, -1)
        q, k, v = (qkv[:, :, :, i].transpose(1, 2) for i in range(3))
        return self.fc(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    return Parts(run, heads=3, embed=nn.Linear(6, 12), qkv=nn.Linear(12, 36), fc=nn.Linear(12, 5))


@net(
    "grouped_queries",
    [TOKENS],
    axes={"q[0]": 2, "q[1]": 2, "q[2]": 4, "v": 4, "embed": 12},
    params=(6 * 12 + 12) + (12 * 16 + 16) + 2 * (12 * 8 + 8) + (16 * 5 + 5),
    macs=10 * (6 * 12 + 12 * 16 + 2 * 12 * 8 + 16 * 5) + 2 * 2 * 5 * 5 * 16,
)
def grouped_queries() -> nn.Module:
    """Four query heads share two key and value heads of size four (repeat_kv by expand)."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q = self.q(x).view(b, n, self.heads, self.size).transpose(1, 2)
        k, v = (layer(x).view(b, n, self.shared, self.size).transpose(1, 2) for layer in (self.k, self.v))
        shape = (b, self.shared, self.heads // self.shared, n, self.size)
        k, v = (t[:, :, None].expand(shape).reshape(b, self.heads, n, self.size) for t in (k, v))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.fc(y.transpose(1, 2).reshape(b, n, -1))

    layers = {"embed": nn.Linear(6, 12), "q": nn.Linear(12, 16), "k": nn.Linear(12, 8), "v": nn.Linear(12, 8)}
    return Parts(run, heads=4, shared=2, size=4, fc=nn.Linear(16, 5), **layers)


def _rotated(x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
    return x * cos + turned * sin


@net(
    "rotary",
    [TOKENS],
    axes={"embed": 12, "fused[0]": 2, "fused[1]": 3, "fused[2]": 6},
    frozen={"q_bias[0]": "stacked tensors"},
    params=(6 * 12 + 12) + 12 * 36 + 24 + (12 * 5 + 5),
    macs=10 * (6 * 12 + 12 * 36 + 12 * 5) + 2 * 2 * 5 * 5 * 12,
)
def rotary() -> nn.Module:
    """Pairs of a rotation stay together; the first token is not rotated; the bias is put together by hand."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        bias = torch.cat([self.q_bias, self.buffer_none, self.v_bias])
        qkv = F.linear(x, self.fused.weight, bias).chunk(3, -1)
        q, k, v = (t.view(b, n, self.heads, -1).transpose(1, 2) for t in qkv)
        q, k = (torch.cat([t[:, :, :1], _rotated(t[:, :, 1:], self.buffer_sin, self.buffer_cos)], 2) for t in (q, k))
        return self.fc(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    bias = {
        "q_bias": nn.Parameter(torch.ones(12)),
        "v_bias": nn.Parameter(torch.ones(12)),
        "buffer_none": torch.ones(12),
    }
    tables = {"buffer_sin": torch.ones(6), "buffer_cos": torch.ones(6)}
    layers = {"embed": nn.Linear(6, 12), "fused": nn.Linear(12, 36, bias=False), "fc": nn.Linear(12, 5)}
    return Parts(run, heads=2, **layers, **bias, **tables)


@net(
    "normed_queries",
    [TOKENS],
    axes={"q[0]": 6, "embed": 12, "q[1]": 2, "v": 6},
    inexact=["q[0]"],
    params=(6 * 12 + 12) + 3 * (12 * 12 + 12) + 6 + (12 * 5 + 5),
    macs=10 * (6 * 12 + 3 * 12 * 12 + 12 * 5) + 2 * 2 * 5 * 5 * 12,
)
def normed_queries() -> nn.Module:
    """The query comes out of a norm, whose weight compensates for the smaller divisor of a smaller head."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q, k, v = (layer(x).view(b, n, self.heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v))
        q = q * torch.rsqrt(q.pow(2).mean(-1, keepdim=True) + 0.1) * self.norm
        return self.fc(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    layers = {"embed": nn.Linear(6, 12), **{name: nn.Linear(12, 12) for name in "qkv"}, "fc": nn.Linear(12, 5)}
    return Parts(run, heads=2, norm=nn.Parameter(torch.ones(6)), **layers)


@net(
    "multi_query",
    [TOKENS],
    axes={"embed": 12, "fused[0]": 2, "fused[1]": 4},
    params=(6 * 12 + 12) + (12 * 16 + 16) + (8 * 5 + 5),
    macs=10 * (6 * 12 + 12 * 16 + 8 * 5) + 2 * 2 * 5 * 5 * 8,
)
def multi_query() -> nn.Module:
    """All heads share one key and one value, which follow them in one layer and are picked by lists."""

    def run(self: Any, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        fused = self.fused(self.embed(x)).view(b, n, self.heads + 2, -1).transpose(1, 2)
        q, k, v = fused[:, :-2], fused[:, [-2]], fused[:, [-1]]
        return self.fc(F.scaled_dot_product_attention(q, k, v, scale=0.5).transpose(1, 2).flatten(2))

    return Parts(run, heads=2, embed=nn.Linear(6, 12), fused=nn.Linear(12, 16), fc=nn.Linear(8, 5))


@net(
    "multihead",
    [TOKENS],
    axes={"embed": 12, "attn.in_proj_weight[0]": 4, "attn.in_proj_weight[1]": 4},
    inexact=["embed"],
    params=ATTENTION + 24,
    macs=ATTENTION_MACS,
)
def multihead() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.embed(x)
        y = self.norm(x)
        return self.fc(x + self.attn(y, y, y, need_weights=False)[0])

    attn = nn.MultiheadAttention(12, 3, batch_first=True)
    return Parts(run, embed=nn.Linear(6, 12), norm=nn.LayerNorm(12), attn=attn, fc=nn.Linear(12, 5))


@net(
    "windows",
    [(1, 3, 8, 8)],
    axes={"a": 8, "mlp": 6},
    params=(3 * 8 + 8) + (8 * 6 + 6) + (6 * 8 + 8) + (8 * 5 + 5),
    macs=64 * (3 * 8 + 8 * 6 + 6 * 8 + 8 * 5),
)
def windows() -> nn.Module:
    """Tokens are rolled, partitioned into windows, mixed within them, and put together again."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x).permute(0, 2, 3, 1)
        b, h, w, c = x.shape
        y = (
            torch.roll(x, (-2, -2), (1, 2))
            .view(b, h // 4, 4, w // 4, 4, c)
            .permute(0, 1, 3, 2, 4, 5)
            .reshape(-1, 16, c)
        )
        y = self.out(self.mlp(y).relu())
        y = y.view(b, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return self.fc(x + torch.roll(y, (2, 2), (1, 2)))

    return Parts(run, a=nn.Conv2d(3, 8, 1), mlp=nn.Linear(8, 6), out=nn.Linear(6, 8), fc=nn.Linear(8, 5))


@net(
    "heads_in_parts",
    [TOKENS],
    axes={"embed": 12, "one": 4},
    frozen={"v.weight[0]": "no plan can satisfy the sizes at"},
    params=(6 * 12 + 12) + (12 * 12 + 12) + (4 * 3 + 4) + (8 * 3 + 8) + (12 * 12 + 12) + (12 * 5 + 5),
    macs=10 * (6 * 12 + 12 * 12 + 12 * 3 + 12 * 12 + 12 * 5),
)
def heads_in_parts() -> nn.Module:
    """One head goes through a kernel, two through another; their sum of heads is reshaped to the width."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, c = x.shape
        heads = self.v(x).reshape(b, n, self.heads, c // self.heads)
        one, two = heads.permute(0, 2, 3, 1).flatten(1, 2).split(self.widths, 1)
        y = torch.cat([self.one(one), self.two(two)], 1)
        y = y.reshape(b, self.heads, c // self.heads, n).permute(0, 3, 1, 2).reshape(b, n, c)
        return self.fc(x + self.proj(y))

    one, two = nn.Conv1d(4, 4, 3, padding=1, groups=4), nn.Conv1d(8, 8, 3, padding=1, groups=8)
    layers = {"embed": nn.Linear(6, 12), "v": nn.Linear(12, 12), "proj": nn.Linear(12, 12), "fc": nn.Linear(12, 5)}
    return Parts(run, heads=3, widths=[4, 8], one=one, two=two, **layers)
