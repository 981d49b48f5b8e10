"""Fourier transforms and complex numbers: global filters, mixing of tokens, rotary embeddings, complex layers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets.parts import Parts
from nets.table import IMAGE, TOKENS, net

FREQUENCIES = "frequencies of an FFT"


@net(
    "global_filter",
    [IMAGE],
    axes={"a": 8},
    frozen={"w[1]": FREQUENCIES, "w[2]": FREQUENCIES, "w[3]": "real and imaginary parts"},
    params=(3 * 8 + 8) + 8 * 8 * 5 * 2 + (8 * 6 + 6),
    macs=64 * (3 * 8 + 8 * 6),
)
def global_filter() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        y = torch.fft.irfft2(torch.fft.rfft2(x) * torch.view_as_complex(self.w), s=x.shape[-2:])
        return self.b(y.relu())

    return Parts(run, a=nn.Conv2d(3, 8, 1), w=nn.Parameter(torch.randn(8, 8, 5, 2)), b=nn.Conv2d(8, 6, 1))


@net(
    "mixed_tokens",
    [TOKENS],
    axes={"a": 8},
    params=(6 * 8 + 8) + (8 * 5 + 5),
    macs=10 * (6 * 8 + 8 * 5),
)
def mixed_tokens() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x + torch.fft.fft(x, dim=1).real)

    return Parts(run, a=nn.Linear(6, 8), b=nn.Linear(8, 5))


def _turned(x: Tensor, angles: Tensor) -> Tensor:
    """Pairs of head dims as complex numbers, turned by an angle that depends on the position."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    turned = pairs * torch.polar(torch.ones_like(angles), angles)[None, :, None, :].to(torch.cfloat)
    return torch.view_as_real(turned).flatten(3).type_as(x)


@net(
    "complex_rotary",
    [TOKENS],
    axes={"embed": 12, "q": 3, "v": 4},
    frozen={f"{name}[0]": "reshape(..., 2) is written at" for name in ("q.weight", "q.bias", "k.weight", "k.bias")},
    params=(6 * 12 + 12) + 4 * (12 * 12 + 12) + (12 * 5 + 5),
    macs=10 * (6 * 12 + 4 * 12 * 12 + 12 * 5) + 2 * 2 * 5 * 5 * 12,
)
def complex_rotary() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = (layer(x).view(*x.shape[:2], self.heads, -1) for layer in (self.q, self.k, self.v))
        angles = torch.outer(torch.arange(x.shape[1]).float(), torch.tensor([1.0, 0.01]))
        q, k = _turned(q, angles), _turned(k, angles)
        y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.fc(x + self.o(y.transpose(1, 2).flatten(2)))

    layers = {name: nn.Linear(12, 12) for name in "qkvo"}
    return Parts(run, heads=3, embed=nn.Linear(6, 12), fc=nn.Linear(12, 5), **layers)


class _ComplexLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(outputs, inputs, 2)), nn.Parameter(torch.randn(outputs, 2))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, torch.view_as_complex(self.w), torch.view_as_complex(self.b))


@net(
    "complex_layers",
    [TOKENS],
    axes={"re": 8, "first.w": 10, "second.w": 7},
    frozen={f"{name}.w[2]": "real and imaginary parts" for name in ("first", "second")},
    params=2 * (6 * 8 + 8) + 2 * (8 * 10 + 10) + 2 * (10 * 7 + 7) + (7 * 5 + 5),
    macs=10 * (2 * 6 * 8 + 8 * 10 + 10 * 7 + 7 * 5),
)
def complex_layers() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        z = self.first(torch.complex(self.re(x), self.im(x)))
        z = self.second(torch.complex(z.real.relu(), z.imag.relu()))
        return self.fc(z.abs() + z.conj().angle())

    first, second = _ComplexLinear(8, 10), _ComplexLinear(10, 7)
    return Parts(run, re=nn.Linear(6, 8), im=nn.Linear(6, 8), first=first, second=second, fc=nn.Linear(7, 5))
