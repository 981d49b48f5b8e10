"""Small models for calibration: each shows what its weights read, by code of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets import Parts
from secateur.graph.graph import Graph
from secateur.trace.tracing import trace

Reads = dict[str, list[Tensor]]
"""What each weight reads, channels last: (..., channels), read by read."""


@dataclass(frozen=True)
class Case:
    """`reads` computes what is read without any hook; `shape` is that of a batch of six. `unheard`: how many axes no
    weight is heard to read, such as the dimensions of queries and keys."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    reads: Callable[[Any, Tensor], Reads]
    unheard: int = 0

    def make(self) -> tuple[Graph, nn.Module, Tensor]:
        """Model and data in float64."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.build().double().eval()
            x = torch.randn(self.shape, dtype=torch.float64)
        return trace(model, x), model, x


def _last(x: Tensor) -> Tensor:
    """Channels of an image last."""
    return x.movedim(1, -1)


def _mlp() -> nn.Module:
    return Parts(lambda m, x: m.b(F.relu(m.a(x))), a=nn.Linear(4, 8), b=nn.Linear(8, 3))


def _cnn(conv: type[nn.Module], **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        first = {nn.Conv1d: nn.Conv1d, nn.Conv2d: nn.Conv2d, nn.Conv3d: nn.Conv3d}.get(conv)  # type: ignore[arg-type]
        before = (first or nn.Conv2d)(2, 6, 3, padding=1)
        return Parts(lambda m, x: m.b(F.relu(m.a(x))).sum(-1), a=before, b=conv(6, 4, 3, **options))

    return build


def _cnn_reads(m: Any, x: Tensor) -> Reads:
    return {"a.weight": [_last(x)], "b.weight": [_last(F.relu(m.a(x)))]}


def _mlp_reads(m: Any, x: Tensor) -> Reads:
    return {"a.weight": [x], "b.weight": [F.relu(m.a(x))]}


def _matrix() -> nn.Module:
    return Parts(
        lambda m, x: F.relu(torch.addmm(m.c, x, m.v)) @ m.w,
        v=nn.Parameter(torch.randn(4, 8)),
        c=nn.Parameter(torch.randn(8)),
        w=nn.Parameter(torch.randn(8, 3)),
    )


def _matrix_reads(m: Any, x: Tensor) -> Reads:
    return {"v": [x], "w": [F.relu(x @ m.v + m.c)]}


def _keywords() -> nn.Module:
    return Parts(
        lambda m, x: F.linear(input=F.relu(F.linear(x, weight=m.v, bias=m.c)), weight=m.w),
        v=nn.Parameter(torch.randn(8, 4)),
        c=nn.Parameter(torch.randn(8)),
        w=nn.Parameter(torch.randn(3, 8)),
    )


def _keywords_reads(m: Any, x: Tensor) -> Reads:
    return {"v": [x], "w": [F.relu(F.linear(x, m.v, m.c))]}


def _left() -> nn.Module:
    """A weight to the left of what it reads."""
    return Parts(
        lambda m, x: (m.w @ F.relu(m.v @ x.T)).T,
        v=nn.Parameter(torch.randn(8, 4)),
        w=nn.Parameter(torch.randn(3, 8)),
    )


def _left_reads(m: Any, x: Tensor) -> Reads:
    return {"v": [x], "w": [F.relu(x @ m.v.T)]}


def _shared() -> nn.Module:
    return Parts(
        lambda m, x: m.c(F.relu(m.b(F.relu(m.b(m.a(x)))))), a=nn.Linear(4, 8), b=nn.Linear(8, 8), c=nn.Linear(8, 2)
    )


def _shared_reads(m: Any, x: Tensor) -> Reads:
    first = m.a(x)
    second = F.relu(m.b(first))
    return {"a.weight": [x], "b.weight": [first, second], "c.weight": [F.relu(m.b(second))]}


def _tied() -> nn.Module:
    """One weight that reads along both of its dimensions: its reader is the one that came first."""
    return Parts(lambda m, x: F.relu(F.linear(x, m.w)) @ m.w, w=nn.Parameter(torch.randn(8, 4)))


def _attention(batch_first: bool) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return Parts(
            _attend, a=nn.Linear(4, 8), attn=nn.MultiheadAttention(8, 2, batch_first=batch_first), b=nn.Linear(8, 2)
        )

    return build


def _attend(m: Any, x: Tensor) -> Tensor:
    tokens = m.a(x) if m.attn.batch_first else m.a(x).transpose(0, 1)
    found = m.attn(tokens, tokens, tokens, need_weights=False)[0]
    return m.b(found if m.attn.batch_first else found.transpose(0, 1)).mean(1)


def _attention_reads(m: Any, x: Tensor) -> Reads:
    tokens, attn = m.a(x), m.attn
    q, k, v = (
        part.unflatten(-1, (2, 4)).transpose(1, 2)
        for part in F.linear(tokens, attn.in_proj_weight, attn.in_proj_bias).chunk(3, -1)
    )
    heads = ((q @ k.transpose(-1, -2) / 2).softmax(-1) @ v).transpose(1, 2).flatten(2)
    done = attn.out_proj(heads)
    return {"a.weight": [x], "attn.in_proj_weight": [tokens] * 3, "attn.out_proj.weight": [heads], "b.weight": [done]}


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return Parts(lambda m, x: m.b(m.layer(m.a(x))).mean(1), a=nn.Linear(4, 8), layer=layer, b=nn.Linear(8, 2))


def _encoder_reads(m: Any, x: Tensor) -> Reads:
    tokens, layer = m.a(x), m.layer
    middle = layer.norm1(tokens + layer.self_attn(tokens, tokens, tokens)[0])
    inner = F.relu(layer.linear1(middle))
    return {
        "a.weight": [x],
        "layer.self_attn.in_proj_weight": [tokens] * 3,
        "layer.linear1.weight": [middle],
        "layer.linear2.weight": [inner],
        "b.weight": [layer(tokens)],
    }


def _windows() -> nn.Module:
    """Tokens of four windows of each example are read as so many examples."""

    def run(m: Any, x: Tensor) -> Tensor:
        tokens = m.a(x).unflatten(1, (4, 3)).flatten(0, 1)
        return m.c(F.gelu(m.b(tokens))).unflatten(0, (-1, 4)).mean((1, 2))

    return Parts(run, a=nn.Linear(4, 8), b=nn.Linear(8, 6), c=nn.Linear(6, 2))


def _inner_windows() -> nn.Module:
    """The same with the windows of all examples side by side, as in a sequence that is flattened."""

    def run(m: Any, x: Tensor) -> Tensor:
        tokens = m.a(x).unflatten(1, (4, 3)).transpose(0, 1).flatten(0, 1)
        return m.c(F.gelu(m.b(tokens))).unflatten(0, (4, -1)).mean((0, 2))

    return Parts(run, a=nn.Linear(4, 8), b=nn.Linear(8, 6), c=nn.Linear(6, 2))


def _windows_reads(m: Any, x: Tensor) -> Reads:
    return {"a.weight": [x], "b.weight": [m.a(x)], "c.weight": [F.gelu(m.b(m.a(x)))]}


CASES: dict[str, Case] = {
    "linear": Case(_mlp, (6, 4), _mlp_reads),
    "tokens": Case(_mlp, (6, 5, 4), _mlp_reads),
    "conv": Case(_cnn(nn.Conv2d, padding=1, stride=2), (6, 2, 7, 5), _cnn_reads),
    "conv_dilated": Case(_cnn(nn.Conv2d, padding="same", dilation=2), (6, 2, 7, 5), _cnn_reads),
    "conv_grouped": Case(_cnn(nn.Conv2d, padding=(1, 0), groups=2), (6, 2, 7, 5), _cnn_reads),
    "conv_1d": Case(_cnn(nn.Conv1d, stride=2), (6, 2, 9), _cnn_reads),
    "conv_3d": Case(_cnn(nn.Conv3d, padding=1), (6, 2, 3, 4, 5), _cnn_reads),
    "transposed": Case(_cnn(nn.ConvTranspose2d, stride=2), (6, 2, 5, 4), _cnn_reads),
    "matrix": Case(_matrix, (6, 4), _matrix_reads),
    "keywords": Case(_keywords, (6, 4), _keywords_reads),
    "left": Case(_left, (6, 4), _left_reads),
    "shared": Case(_shared, (6, 4), _shared_reads),
    "tied": Case(_tied, (6, 4), lambda m, x: {"w": [x]}, unheard=1),
    "attention": Case(_attention(True), (6, 5, 4), _attention_reads, unheard=1),
    "attention_sequence_first": Case(_attention(False), (6, 5, 4), _attention_reads, unheard=1),
    "encoder_layer": Case(_encoder, (6, 5, 4), _encoder_reads, unheard=1),
    "windows": Case(_windows, (6, 12, 4), _windows_reads),
    "inner_windows": Case(_inner_windows, (6, 12, 4), _windows_reads),
}
