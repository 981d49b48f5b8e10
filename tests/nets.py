"""Tiny networks that carry their own expected answer: prunable axes, reasons why the rest is frozen, costs by formula.

A `Net` is made of parts and of a function that runs them: `make()` builds the module anew, with random weights and
random buffers from a fixed seed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from secateur.graph.graph import Graph


class Parts(nn.Module):
    """Modules, parameters, buffers (tensors whose name starts with `buffer`) and numbers, and a function of them."""

    def __init__(self, run: Callable[..., Any], **parts: Any):
        super().__init__()
        self._run = run
        for name, part in parts.items():
            if isinstance(part, Tensor) and name.startswith("buffer"):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(self, *args, **kwargs)


@dataclass(frozen=True)
class Net:
    """`axes`: size by name. `frozen`: part of the reason by `parameter[dim]`. `macs`: of one call on `inputs`."""

    build: Callable[[], nn.Module]
    inputs: tuple[Any, ...]
    axes: Mapping[str, int]
    params: int
    macs: int
    frozen: Mapping[str, str] = field(default_factory=dict)
    unreached: Sequence[str] = ()
    unknown: Sequence[str] = ()
    inexact: Sequence[str] = ()  # names of axes

    def make(self, seed: int = 0) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.build().eval()
            for name, buffer in model.named_buffers():
                if buffer.is_floating_point():
                    buffer.copy_(torch.rand_like(buffer) + 0.5 if "var" in name else torch.randn_like(buffer))
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.data.normal_(1.0, 0.5)
        return model

    def example(self, seed: int = 1) -> tuple[Any, ...]:
        """Inputs: shapes become normal tensors, everything else is given as it is."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(torch.randn(i, generator=generator) if isinstance(i, torch.Size) else i for i in self.inputs)


NETS: dict[str, Net] = {}


def net(
    name: str, inputs: Sequence[Any], **expected: Any
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Register a function that builds a module."""

    def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        assert name not in NETS, name
        NETS[name] = Net(build, tuple(torch.Size(i) if isinstance(i, tuple) else i for i in inputs), **expected)
        return build

    return register


IMAGE = (1, 3, 8, 8)
TOKENS = (2, 5, 6)
IDS = torch.tensor([[1, 4, 0], [6, 2, 2]])


# --- convolutions ---------------------------------------------------------------------------------------------------


@net(
    "plain_cnn",
    [IMAGE],
    axes={"conv1": 8, "conv2": 12},
    frozen={"conv1.weight[1]": "model input", "conv1.weight[2]": "kernel size", "fc.weight[0]": "model output"},
    params=(3 * 9 * 8 + 8) + 2 * 8 + (8 * 9 * 12 + 12) + (12 * 4 * 5 + 5),
    macs=64 * 3 * 9 * 8 + 4 * 8 * 9 * 12 + 12 * 4 * 5,
)
def plain_cnn() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.bn(self.conv1(x)).relu(), 2)
        return self.fc(self.conv2(x).relu().flatten(1))

    conv1, conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3)
    return Parts(run, conv1=conv1, bn=nn.BatchNorm2d(8), conv2=conv2, fc=nn.Linear(48, 5))


@net(
    "residual",
    [IMAGE],
    axes={"stem": 8, "a": 6, "b": 12},
    params=(3 * 8 + 8) + (8 * 9 * 6 + 6) + (6 * 9 * 12 + 12) + (8 * 12 + 12) + 2 * 12 + (12 * 5 + 5),
    macs=64 * 3 * 8 + 16 * 8 * 9 * 6 + 16 * 6 * 9 * 12 + 16 * 8 * 12 + 12 * 5,
)
def residual() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = self.b(self.a(x).relu()) + self.shortcut(x)
        return self.fc(self.bn(x).relu().mean((2, 3)))

    return Parts(
        run,
        stem=nn.Conv2d(3, 8, 1),
        a=nn.Conv2d(8, 6, 3, stride=2, padding=1),
        b=nn.Conv2d(6, 12, 3, padding=1),
        shortcut=nn.Conv2d(8, 12, 1, stride=2),
        bn=nn.BatchNorm2d(12),
        fc=nn.Linear(12, 5),
    )


@net(
    "dense",
    [IMAGE],
    axes={"stem": 8, "a": 4, "b": 6},
    frozen={"c.weight[0]": "model output"},
    params=(3 * 8 + 8) + (8 * 4 + 4) + 2 * 12 + (12 * 6 + 6) + (18 * 5 + 5),
    macs=64 * (3 * 8 + 8 * 4 + 12 * 6 + 18 * 5),
)
def dense() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = torch.cat([x, self.a(x)], 1)
        x = torch.cat([x, self.b(self.bn(x).relu())], 1)
        return self.c(x)

    stem, a, b, c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(12, 6, 1), nn.Conv2d(18, 5, 1)
    return Parts(run, stem=stem, a=a, bn=nn.BatchNorm2d(12), b=b, c=c)


@net(
    "grouped",
    [IMAGE],
    axes={"a[0]": 4, "a[1]": 3, "g": 2},
    params=(3 * 12 + 12) + (3 * 9 * 8 + 8) + (8 * 5 + 5),
    macs=64 * (3 * 12 + 3 * 9 * 8 + 8 * 5),
)
def grouped() -> nn.Module:
    """Four groups of three channels, then of two: whole groups, and channels within them, alike in all."""
    a, g, c = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 8, 3, padding=1, groups=4), nn.Conv2d(8, 5, 1)
    return Parts(lambda self, x: self.c(self.g(self.a(x)).relu()), a=a, g=g, c=c)


@net(
    "depthwise",
    [IMAGE],
    axes={"a": 6, "d": 2},
    params=(3 * 6 + 6) + (6 * 9 + 6) + (9 * 12 + 12) + (12 * 5 + 5),
    macs=64 * (3 * 6 + 6 * 9 + 9 * 12 + 12 * 5),
)
def depthwise() -> nn.Module:
    """A plain depthwise layer, then one with two filters a channel."""

    def run(self: Any, x: Tensor) -> Tensor:
        return self.c(self.d(self.plain(self.a(x)).relu()).relu())

    plain, d = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 12, 3, padding=1, groups=6)
    return Parts(run, a=nn.Conv2d(3, 6, 1), plain=plain, d=d, c=nn.Conv2d(12, 5, 1))


@net(
    "transposed",
    [IMAGE],
    axes={"a": 8, "up[0]": 2, "up[1]": 3, "wide": 4},
    params=(3 * 8 + 8) + (8 * 6 * 4 + 6) + (6 * 4 * 4 + 8) + (8 * 5 + 5),
    macs=64 * 3 * 8 + 64 * 8 * 6 * 4 + 256 * 6 * 4 * 4 + 1024 * 8 * 5,
)
def transposed() -> nn.Module:
    """A transposed layer, then a grouped one (w: [g*i, o, *])."""
    up, wide = nn.ConvTranspose2d(8, 6, 2, stride=2), nn.ConvTranspose2d(6, 8, 2, stride=2, groups=2)
    return Parts(
        lambda self, x: self.c(self.wide(self.up(self.a(x)).relu())),
        a=nn.Conv2d(3, 8, 1),
        up=up,
        wide=wide,
        c=nn.Conv2d(8, 5, 1),
    )


@net(
    "one_and_three_dims",
    [(1, 3, 9), (1, 3, 4, 4, 4)],
    axes={"line": 8, "cube": 6},
    params=(3 * 3 * 8 + 8) + 2 * 8 + (8 * 5 + 5) + (3 * 27 * 6 + 6) + (6 * 5 + 5),
    macs=7 * 3 * 3 * 8 + 8 * 5 + 8 * 3 * 27 * 6 + 6 * 5,
)
def one_and_three_dims() -> nn.Module:
    def run(self: Any, x: Tensor, y: Tensor) -> Tensor:
        x = self.bn(self.line(x)).relu().mean(-1)
        return self.fc(x) + self.out(self.cube(y).relu().amax((2, 3, 4)))

    line, cube = nn.Conv1d(3, 8, 3), nn.Conv3d(3, 6, 3)
    return Parts(run, line=line, bn=nn.BatchNorm1d(8), fc=nn.Linear(8, 5), cube=cube, out=nn.Linear(6, 5))


@net(
    "functional",
    [IMAGE],
    axes={"kernel": 8, "hidden": 6},
    params=8 * 3 * 9 + 8 + 8 * 6 + 6 * 5,
    macs=36 * 3 * 9 * 8 + 8 * 6 + 6 * 5,
)
def functional() -> nn.Module:
    """No module but the net itself: `F.conv2d`, `x @ parameter`, `F.linear`."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.kernel, self.shift).relu().mean((2, 3))
        return F.linear((x @ self.hidden).relu(), self.out)

    shapes = {"kernel": (8, 3, 3, 3), "shift": (8,), "hidden": (8, 6), "out": (5, 6)}
    return Parts(run, **{name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()})


# --- channels cut up and laid together ------------------------------------------------------------------------------


@net(
    "channel_shuffle",
    [IMAGE],
    axes={"a": 4, "b": 6},
    frozen={"a.weight[0]": "reshape(..., 3) is written at"},
    params=(3 * 12 + 12) + (12 * 6 + 6) + (6 * 5 + 5),
    macs=64 * (3 * 12 + 12 * 6 + 6 * 5),
)
def channel_shuffle() -> nn.Module:
    """Each of three groups keeps units of its own, which then lie interleaved."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        b, c, h, w = x.shape
        x = x.view(b, 3, c // 3, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.c(self.b(x.relu()))

    return Parts(run, a=nn.Conv2d(3, 12, 1), b=nn.Conv2d(12, 6, 1), c=nn.Conv2d(6, 5, 1))


@net(
    "c2f",
    [IMAGE],
    axes={"a[0]": 4, "a[1]": 4, "m": 4, "n": 4},
    params=(3 * 8 + 8) + 2 * (4 * 4 + 4) + (16 * 5 + 5),
    macs=64 * (3 * 8 + 2 * 4 * 4 + 16 * 5),
)
def c2f() -> nn.Module:
    """YOLO's chunk, append, cat."""

    def run(self: Any, x: Tensor) -> Tensor:
        ys = list(self.a(x).chunk(2, 1))
        ys.append(self.m(ys[-1]))
        ys.append(self.n(ys[-1]).relu())
        return self.c(torch.cat(ys, 1))

    return Parts(run, a=nn.Conv2d(3, 8, 1), m=nn.Conv2d(4, 4, 1), n=nn.Conv2d(4, 4, 1), c=nn.Conv2d(16, 5, 1))


@net(
    "gated",
    [IMAGE],
    axes={"a": 4, "b": 6},
    params=(3 * 8 + 8) + (4 * 12 + 12) + (6 * 5 + 5),
    macs=64 * (3 * 8 + 4 * 12 + 6 * 5),
)
def gated() -> nn.Module:
    """A gate by `chunk`, and one by `F.glu`: both halves share their fate unit by unit."""

    def run(self: Any, x: Tensor) -> Tensor:
        x, gate = self.a(x).chunk(2, dim=1)
        return self.c(F.glu(self.b(x * gate.sigmoid()), 1))

    return Parts(run, a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(4, 12, 1), c=nn.Conv2d(6, 5, 1))


@net(
    "squeeze_excite",
    [IMAGE],
    axes={"a": 8, "down": 4},
    params=(3 * 8 + 8) + (8 * 4 + 4) + (4 * 8 + 8) + (8 * 5 + 5),
    macs=64 * (3 * 8 + 8 * 5) + 2 * 8 * 4,
)
def squeeze_excite() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        gate = self.up(self.down(F.adaptive_avg_pool2d(x, 1)).relu())
        return self.c(x * gate.sigmoid())

    a, c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 1)
    return Parts(run, a=a, down=nn.Conv2d(8, 4, 1), up=nn.Conv2d(4, 8, 1), c=c)


class IBNorm(nn.Module):
    """Batch norm on the first channels, instance norm on the others; the numbers of both are attributes."""

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
    "pixel_shuffle",
    [IMAGE],
    axes={"a": 2, "b": 3},
    params=(3 * 8 + 8) + (2 * 3 + 3) + (12 * 5 + 5),
    macs=64 * 3 * 8 + 256 * 2 * 3 + 64 * 12 * 5,
)
def pixel_shuffle() -> nn.Module:
    """Up: the four channels of a block live and die together. Down: one channel becomes four."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = F.pixel_shuffle(self.a(x), 2)
        return self.c(F.pixel_unshuffle(self.b(x).relu(), 2))

    return Parts(run, a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(2, 3, 1), c=nn.Conv2d(12, 5, 1))


@net(
    "cifar_shortcut",
    [IMAGE],
    axes={"a": 4, "b": 6},
    frozen={"c.weight[0]": "padding"},
    params=(3 * 4 + 4) + (4 * 6 + 6) + (6 * 8 + 8) + (8 * 5 + 5),
    macs=64 * (3 * 4) + 16 * (4 * 6 + 6 * 8) + 8 * 5,
)
def cifar_shortcut() -> nn.Module:
    """A shortcut without weights: strided, with channels of zeros before and behind."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        y = self.c(self.b(x[:, :, ::2, ::2]).relu())
        return self.fc((y + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))).mean((2, 3)))

    return Parts(run, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 6, 1), c=nn.Conv2d(6, 8, 1), fc=nn.Linear(8, 5))


@net(
    "in_place",
    [IMAGE],
    axes={"a": 8},
    params=2 * (3 * 8 + 8) + 8 + (8 * 5 + 5),
    macs=64 * (2 * 3 * 8 + 8 * 5),
)
def in_place() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        y = self.a(x).relu_() * self.scale.view(1, -1, 1, 1)
        y += self.b(x)
        return self.c(y.clamp(max=3))

    parts = {"a": nn.Conv2d(3, 8, 1), "b": nn.Conv2d(3, 8, 1), "c": nn.Conv2d(8, 5, 1)}
    return Parts(run, scale=nn.Parameter(torch.randn(8)), **parts)


@net(
    "shuffled_sum",
    [TOKENS],
    axes={"a": 4},
    frozen={"b.weight[0]": "unflatten(..., 3) is written at"},
    params=2 * (6 * 12 + 12) + (12 * 5 + 5),
    macs=10 * (2 * 6 * 12 + 12 * 5),
)
def shuffled_sum() -> nn.Module:
    """Interleaved groups meet a second layer, whose units lie the other way about."""

    def run(self: Any, x: Tensor) -> Tensor:
        y = self.a(x)
        y = y.unflatten(-1, (3, y.shape[-1] // 3)).transpose(-1, -2).flatten(-2)
        return self.c(y + self.b(x))

    return Parts(run, a=nn.Linear(6, 12), b=nn.Linear(6, 12), c=nn.Linear(12, 5))


@net(
    "halved_heads",
    [TOKENS],
    axes={"a[0]": 3, "a[1]": 2, "a[2]": 2},
    params=(6 * 12 + 12) + (12 * 5 + 5),
    macs=10 * (6 * 12 + 12 * 5),
)
def halved_heads() -> nn.Module:
    """Heads whose channels are cut in two, as rotary embeddings do."""

    def run(self: Any, x: Tensor) -> Tensor:
        y = self.a(x).view(*x.shape[:-1], self.heads, -1)
        half = y.shape[-1] // 2
        return self.c(torch.cat([y[..., :half], y[..., half:].relu()], -1).flatten(-2))

    return Parts(run, heads=3, a=nn.Linear(6, 12), c=nn.Linear(12, 5))


@net(
    "groups_that_meet",
    [TOKENS],
    axes={"a": 4},
    params=(6 * 12 + 12) + (12 * 5 + 5),
    macs=10 * (6 * 12 + 12 * 5),
)
def groups_that_meet() -> nn.Module:
    """A softmax over groups: what a group keeps, all must keep."""
    run = lambda self, x: self.c(self.a(x).unflatten(-1, (3, -1)).softmax(-2).flatten(-2))  # noqa: E731
    return Parts(run, a=nn.Linear(6, 12), c=nn.Linear(12, 5))


@net(
    "outer_product",
    [TOKENS],
    axes={"a[0]": 3, "a[1]": 4},
    params=(6 * 12 + 12) + (36 * 5 + 5),
    macs=10 * (6 * 12 + 36 * 5),
)
def outer_product() -> nn.Module:
    """Every head times every other, channel by channel: channels are alike in all heads."""

    def run(self: Any, x: Tensor) -> Tensor:
        y = self.a(x).unflatten(-1, (self.heads, -1))
        return self.c((y.unsqueeze(-2) * y.unsqueeze(-3)).flatten(-3))

    return Parts(run, heads=3, a=nn.Linear(6, 12), c=nn.Linear(36, 5))


@net(
    "groups_that_do_not_fit",
    [IMAGE],
    axes={"b": 4},
    frozen={"g.weight[0]": "groups that do not fit the channels"},
    params=(3 * 6 + 6) + (2 * 6 + 6) + (6 * 4 + 4) + (4 * 5 + 5),
    macs=64 * (3 * 6 + 2 * 6 + 6 * 4 + 4 * 5),
)
def groups_that_do_not_fit() -> nn.Module:
    """Three groups across the seam of two halves: the layer stays, and counts."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        half = x.shape[1] // 2
        return self.c(self.b(self.g(torch.cat([x[:, half:], x[:, :half]], 1))))

    g, b = nn.Conv2d(6, 6, 1, groups=3), nn.Conv2d(6, 4, 1)
    return Parts(run, a=nn.Conv2d(3, 6, 1), g=g, b=b, c=nn.Conv2d(4, 5, 1))


@net(
    "shared_config",
    [TOKENS],
    axes={
        "blocks.0.wide[0]": 4,
        "blocks.0.wide[1]": 3,
        "blocks.0.out": 6,
        "blocks.1.wide[0]": 4,
        "blocks.1.wide[1]": 3,
    },
    params=2 * (6 * 12 + 12 + 12 * 6 + 6),
    macs=10 * 2 * 2 * 6 * 12,
)
def shared_config() -> nn.Module:
    """One config object for all layers, which read their head counts and sizes from it."""

    def block(self: Any, x: Tensor) -> Tensor:
        heads = self.wide(x).view(*x.shape[:-1], self.config.heads, self.config.text["sizes"][0])
        return self.out(heads.relu().reshape(*x.shape[:-1], self.config.heads * self.config.text["sizes"][0]))

    def run(self: Any, x: Tensor) -> Tensor:
        for layer in self.blocks:
            x = layer(x)
        return x

    config = SimpleNamespace(heads=4, text={"sizes": [3]}, layers=2)
    parts = [Parts(block, wide=nn.Linear(6, 12), out=nn.Linear(12, 6), config=config) for _ in range(2)]
    return Parts(run, blocks=nn.ModuleList(parts), config=config)


# --- norms ----------------------------------------------------------------------------------------------------------


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


# --- attention ------------------------------------------------------------------------------------------------------


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
    """q, k and v lie side by side in every head; v chooses for itself."""

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
    """The query comes out of a norm, whose weight takes up what a smaller head divides by."""

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
    """All heads share one key and one value, which lie behind them in one layer and are picked by lists."""

    def run(self: Any, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        fused = self.fused(self.embed(x)).view(b, n, self.heads + 2, -1).transpose(1, 2)
        q, k, v = fused[:, :-2], fused[:, [-2]], fused[:, [-1]]
        return self.fc(F.scaled_dot_product_attention(q, k, v, scale=0.5).transpose(1, 2).flatten(2))

    return Parts(run, heads=2, embed=nn.Linear(6, 12), fused=nn.Linear(12, 16), fc=nn.Linear(8, 5))


@net(
    "halves_of_unequal_parts",
    [(4, 6)],
    axes={"a[0]": 8, "a[1]": 4, "a[2]": 12},
    params=(6 * 24 + 24) + (24 * 5 + 5),
    macs=4 * (6 * 24 + 24 * 5),
)
def halves_of_unequal_parts() -> nn.Module:
    """Of two halves that stay equally long, one is made of two parts: all three keep the same share."""

    def run(self: Any, x: Tensor) -> Tensor:
        first, second = self.a(x).chunk(2, -1)
        first = torch.cat([first[:, : self.cut], first[:, self.cut :].relu()], -1)
        return self.fc(torch.cat([first, second], -1))

    return Parts(run, cut=8, a=nn.Linear(6, 24), fc=nn.Linear(24, 5))


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


@net(
    "windows",
    [(1, 3, 8, 8)],
    axes={"a": 8, "mlp": 6},
    params=(3 * 8 + 8) + (8 * 6 + 6) + (6 * 8 + 8) + (8 * 5 + 5),
    macs=64 * (3 * 8 + 8 * 6 + 6 * 8 + 8 * 5),
)
def windows() -> nn.Module:
    """Rolled, cut into windows, mixed there, and put together again."""

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
    "narrowed",
    [TOKENS],
    axes={"b": 4},
    frozen={"a.weight[0]": "narrow(..., 8) is written at"},
    params=(6 * 8 + 8) + (8 * 8 + 8) + (4 * 5 + 5),
    macs=10 * (6 * 8 + 8 * 8 + 4 * 5),
)
def narrowed() -> nn.Module:
    """`narrow` over all units, as many as are written there, and over halves that are computed."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.b(self.a(x).narrow(-1, 0, 8).relu())
        half = x.shape[-1] // 2
        return self.fc(x.narrow(2, 0, half) * torch.narrow(x, 2, half, half))

    return Parts(run, a=nn.Linear(6, 8), b=nn.Linear(8, 8), fc=nn.Linear(4, 5))


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


# --- recurrent layers -----------------------------------------------------------------------------------------------


@net(
    "lstm",
    [TOKENS],
    axes={"rnn.weight_ih_l0": 8},
    frozen={
        "rnn.weight_ih_l0[1]": "model input",
        "rnn.weight_hh_l0[0]": "the gates of a recurrent cell",
        "fc.weight[0]": "model output",
    },
    params=4 * 8 * (6 + 8 + 2) + (8 * 5 + 5),
    macs=10 * (4 * 8 * (6 + 8) + 8 * 5),
)
def lstm() -> nn.Module:
    run = lambda self, x: self.fc(self.rnn(x)[0])  # noqa: E731
    return Parts(run, rnn=nn.LSTM(6, 8, batch_first=True), fc=nn.Linear(8, 5))


@net(
    "tagger",
    [IDS],
    axes={
        "embed": 6,
        "rnn.weight_ih_l0": 8,
        "rnn.weight_ih_l0_reverse": 8,
        "rnn.weight_ih_l1": 8,
        "rnn.weight_ih_l1_reverse": 8,
    },
    params=7 * 6 + 2 * 4 * 8 * (6 + 8 + 2) + 2 * 4 * 8 * (16 + 8 + 2) + (16 * 5 + 5),
    macs=6 * (2 * 4 * 8 * (6 + 8) + 2 * 4 * 8 * (16 + 8) + 16 * 5),
)
def tagger() -> nn.Module:
    """Two layers in two directions: one count for all four, units of their own for each."""
    rnn = nn.LSTM(6, 8, num_layers=2, bidirectional=True, batch_first=True, dropout=0.1)
    run = lambda self, ids: self.fc(self.rnn(self.embed(ids))[0])  # noqa: E731
    return Parts(run, embed=nn.Embedding(7, 6), rnn=rnn, fc=nn.Linear(16, 5))


@net(
    "projected_lstm",
    [TOKENS],
    axes={
        "a": 4,
        "rnn.weight_ih_l0": 9,
        "rnn.weight_hr_l0": 4,
        "rnn.weight_ih_l1": 9,
        "rnn.weight_hr_l1": 4,
    },
    params=(6 * 4 + 4) + 2 * (4 * 9 * (4 + 4 + 2) + 4 * 9) + (4 * 5 + 5),
    macs=10 * (6 * 4 + 2 * (4 * 9 * (4 + 4) + 4 * 9) + 4 * 5),
)
def projected_lstm() -> nn.Module:
    run = lambda self, x: self.fc(self.rnn(self.a(x))[0])  # noqa: E731
    rnn = nn.LSTM(4, 9, num_layers=2, proj_size=4)
    return Parts(run, a=nn.Linear(6, 4), rnn=rnn, fc=nn.Linear(4, 5))


@net(
    "gru",
    [IDS],
    axes={"embed": 6, "rnn.weight_ih_l0": 8, "rnn.weight_ih_l1": 8},
    params=7 * 6 + 3 * 8 * (6 + 8 + 2) + 3 * 8 * (8 + 8 + 2) + (8 * 5 + 5),
    macs=6 * (3 * 8 * (6 + 8) + 3 * 8 * (8 + 8)) + 3 * 8 * 5,
)
def gru() -> nn.Module:
    """The last state of the last layer is the feature; that of the first layer is nobody's."""
    run = lambda self, ids: self.fc(self.rnn(self.embed(ids))[1][-1])  # noqa: E731
    return Parts(run, embed=nn.Embedding(7, 6), rnn=nn.GRU(6, 8, num_layers=2), fc=nn.Linear(8, 5))


@net(
    "elman",
    [TOKENS],
    axes={"rnn.weight_ih_l0": 8, "tanh.weight_ih_l0": 7},
    params=8 * (6 + 8) + 7 * (8 + 7 + 2) + (7 * 5 + 5),
    macs=10 * (8 * (6 + 8) + 7 * (8 + 7) + 7 * 5),
)
def elman() -> nn.Module:
    run = lambda self, x: self.fc(self.tanh(self.rnn(x)[0])[0])  # noqa: E731
    rnn = nn.RNN(6, 8, nonlinearity="relu", bias=False)
    return Parts(run, rnn=rnn, tanh=nn.RNN(8, 7), fc=nn.Linear(7, 5))


@net(
    "states_of_both_directions",
    [TOKENS],
    axes={"rnn.weight_ih_l0": 8, "rnn.weight_ih_l0_reverse": 8, "rnn.weight_ih_l1": 8, "rnn.weight_ih_l1_reverse": 8},
    params=2 * 4 * 8 * (6 + 8 + 2) + 2 * 4 * 8 * (16 + 8 + 2) + (32 * 5 + 5),
    macs=10 * (2 * 4 * 8 * (6 + 8) + 2 * 4 * 8 * (16 + 8)) + 5 * 32 * 5,
)
def states_of_both_directions() -> nn.Module:
    """States taken apart by direction, by layer, and by a slice: every one keeps units of its own."""

    def run(self: Any, x: Tensor) -> Tensor:
        _, (h, c) = self.rnn(x)
        h = h.view(2, 2, h.shape[1], -1)[-1]
        forth, back = c[:2]
        return self.fc(torch.cat([h[0], h[1], forth, back], 1))

    return Parts(run, rnn=nn.LSTM(6, 8, num_layers=2, bidirectional=True), fc=nn.Linear(32, 5))


@net(
    "states_as_one",
    [TOKENS],
    axes={"rnn.weight_ih_l0": 8},
    params=3 * 8 * (6 + 8 + 2) + 3 * 8 * (8 + 8 + 2) + (16 * 5 + 5),
    macs=10 * (3 * 8 * (6 + 8) + 3 * 8 * (8 + 8)) + 2 * 16 * 5,
)
def states_as_one() -> nn.Module:
    """States laid side by side as a whole: what one layer keeps, all must keep."""
    run = lambda self, x: self.fc(self.rnn(x)[1].transpose(0, 1).flatten(1))  # noqa: E731
    return Parts(run, rnn=nn.GRU(6, 8, num_layers=2, batch_first=True), fc=nn.Linear(16, 5))


@net(
    "encoder_decoder",
    [TOKENS],
    axes={"encoder.weight_ih_l0": 8, "encoder.weight_ih_l1": 8},
    params=2 * (4 * 8 * (6 + 8 + 2) + 4 * 8 * (8 + 8 + 2)) + (8 * 5 + 5),
    macs=10 * (2 * (4 * 8 * (6 + 8) + 4 * 8 * (8 + 8)) + 8 * 5),
)
def encoder_decoder() -> nn.Module:
    """The states of one net are the first of another: layer by layer the same units."""
    run = lambda self, x: self.fc(self.decoder(x, self.encoder(x)[1])[0])  # noqa: E731
    layers = {name: nn.LSTM(6, 8, num_layers=2) for name in ("encoder", "decoder")}
    return Parts(run, **layers, fc=nn.Linear(8, 5))


@net(
    "learned_states",
    [TOKENS],
    axes={"rnn.weight_ih_l0": 8},
    frozen={"h[0]": "one state for each layer and direction"},
    params=2 * 2 * 8 + 4 * 8 * (6 + 8 + 2) + 4 * 8 * (8 + 8 + 2) + (8 * 5 + 5),
    macs=10 * (4 * 8 * (6 + 8) + 4 * 8 * (8 + 8) + 8 * 5),
)
def learned_states() -> nn.Module:
    """One parameter holds the first states of all layers, so that all keep the same units."""

    def run(self: Any, x: Tensor) -> Tensor:
        h, c = (state.expand(-1, x.shape[0], -1).contiguous() for state in (self.h, self.c))
        return self.fc(self.rnn(x, (h, c))[0])

    states = {name: nn.Parameter(torch.randn(2, 1, 8)) for name in "hc"}
    return Parts(run, rnn=nn.LSTM(6, 8, num_layers=2, batch_first=True), fc=nn.Linear(8, 5), **states)


@net(
    "zero_states",
    [(5, 6)],
    axes={"rnn.weight_ih_l0": 8, "rnn.weight_ih_l0_reverse": 8},
    params=2 * 3 * 8 * (6 + 8 + 2) + (16 * 5 + 5),
    macs=5 * (2 * 3 * 8 * (6 + 8) + 16 * 5),
)
def zero_states() -> nn.Module:
    """First states of zeros, made by hand, for one sequence without a batch."""

    def run(self: Any, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x, torch.zeros(2, self.hidden).to(x))[0])

    return Parts(run, hidden=8, rnn=nn.GRU(6, 8, bidirectional=True), fc=nn.Linear(16, 5))


@net(
    "lstm_cell",
    [TOKENS],
    axes={"cell.weight_ih": 8, "gru.weight_ih": 7, "rnn.weight_ih": 9},
    params=4 * 8 * (6 + 8 + 2) + 3 * 7 * (8 + 7 + 2) + 9 + 9 * (7 + 9 + 2) + (9 * 5 + 5),
    macs=10 * (4 * 8 * (6 + 8) + 3 * 7 * (8 + 7) + 9 * (7 + 9) + 9 * 5),
)
def lstm_cell() -> nn.Module:
    """Cells in a loop, without first states, and with one that is a parameter."""

    def run(self: Any, x: Tensor) -> Tensor:
        state, h, last, outs = None, None, self.start.expand(x.shape[0], -1), []
        for step in x.unbind(1):
            state = self.cell(step, state)
            h = self.gru(state[0], h)
            last = self.rnn(h, last)
            outs.append(last)
        return self.fc(torch.stack(outs, 1))

    cells = {"cell": nn.LSTMCell(6, 8), "gru": nn.GRUCell(8, 7), "rnn": nn.RNNCell(7, 9, nonlinearity="relu")}
    return Parts(run, **cells, start=nn.Parameter(torch.randn(1, 9)), fc=nn.Linear(9, 5))


@net(
    "weights_in_a_list",
    [TOKENS],
    axes={"a": 8, "b": 7},
    params=6 * 8 + 8 * 7 + 7 * 5,
    macs=10 * (6 * 8 + 8 * 7 + 7 * 5),
)
def weights_in_a_list() -> nn.Module:
    """Parameters that `forward` reads from a list beside the module's own tables."""

    def run(self: Any, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = F.linear(x.relu(), weight)
        return x

    layers = {name: nn.Parameter(torch.randn(shape)) for name, shape in {"a": (8, 6), "b": (7, 8), "c": (5, 7)}.items()}
    return Parts(run, **layers, weights=list(layers.values()))


@net(
    "crnn",
    [(2, 3, 8, 12)],
    axes={"conv": 4, "rnn.weight_ih_l0": 8, "rnn.weight_ih_l0_reverse": 8},
    params=(3 * 9 * 4 + 4) + 2 * 4 + 2 * 4 * 8 * (16 + 8 + 2) + (16 * 5 + 5),
    macs=2 * 96 * 3 * 9 * 4 + 2 * 6 * (2 * 4 * 8 * (16 + 8) + 16 * 5),
)
def crnn() -> nn.Module:
    """Columns of an image are the steps of a sequence; channels and rows are its inputs."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.bn(self.conv(x)).relu(), 2)
        b, c, h, w = x.shape
        y, _ = self.rnn(x.permute(3, 0, 1, 2).reshape(w, b, c * h))
        return self.fc(y.view(w * b, -1)).view(w, b, -1)

    conv, rnn = nn.Conv2d(3, 4, 3, padding=1), nn.LSTM(16, 8, bidirectional=True)
    return Parts(run, conv=conv, bn=nn.BatchNorm2d(4), rnn=rnn, fc=nn.Linear(16, 5))


# --- tables, shared and derived weights -----------------------------------------------------------------------------


@net(
    "tied_embedding",
    [IDS],
    axes={"embed": 6, "a": 8},
    frozen={"embed.weight[0]": "embedding rows are chosen by data"},
    params=7 * 6 + 3 * 6 + (6 * 8 + 8) + (8 * 6 + 6),
    macs=6 * (6 * 8 + 8 * 6 + 6 * 7),
)
def tied_embedding() -> nn.Module:
    """Token and position embeddings; the token table is also the last layer."""

    def run(self: Any, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.place[: ids.shape[1]]
        x = x + self.b(self.a(x).relu())
        return x @ self.embed.weight.t()

    embed, place = nn.Embedding(7, 6), nn.Parameter(torch.randn(3, 6))
    return Parts(run, embed=embed, place=place, a=nn.Linear(6, 8), b=nn.Linear(8, 6))


@net(
    "shared",
    [TOKENS],
    axes={"a": 8, "bias": 10},
    params=(6 * 8 + 8) + (8 * 10 + 10) + (10 * 8 + 8) + (8 * 5 + 5),
    macs=10 * (6 * 8 + 2 * (8 * 10 + 10 * 8) + 8 * 5),
)
def shared() -> nn.Module:
    """One block under two names, and its bias under a third."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        x = self.down(self.up(x).relu())
        return self.c(self.down(self.again(x).relu()))

    up = nn.Linear(8, 10)
    return Parts(run, a=nn.Linear(6, 8), up=up, down=nn.Linear(10, 8), again=up, bias=up.bias, c=nn.Linear(8, 5))


@net(
    "followers",
    [TOKENS],
    axes={"a": 8},
    params=(6 * 8 + 8) + (8 * 5 + 5),
    macs=10 * (6 * 8 + 8 * 5),
)
def followers() -> nn.Module:
    """A buffer and a plain tensor attribute of the size of a layer."""

    def run(self: Any, x: Tensor) -> Tensor:
        return self.c((self.a(x) - self.buffer_mean) * self.gain[None])

    buffers = {"buffer_mean": torch.randn(8), "gain": torch.randn(1, 8)}
    return Parts(run, a=nn.Linear(6, 8), c=nn.Linear(8, 5), **buffers)


@net(
    "picked",
    [IMAGE],
    axes={"buffer_one": 8, "a": 6, "buffer_two": 8, "b": 4},
    frozen={"stem.weight[0]": "picked by their position", "widen.weight[0]": "picked by their position"},
    params=(3 * 8 + 8) + 2 * 16 + (8 * 6 + 6) + (6 * 8 + 8) + (8 * 4 + 4) + (4 * 8 + 8) + 2 * 8 + (8 * 5 + 5),
    macs=64 * (3 * 8 + 8 * 6 + 6 * 8 + 8 * 4 + 4 * 8) + 8 * 5,
)
def picked() -> nn.Module:
    """Each block picks channels of its own from a stream that stays whole: as index_select and as an index."""

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
    frozen={"stem.weight[0]": "picked by their position", "a.weight[0]": "picked by their position"},
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
    """A list of positions that is computed with is no mere pick: its values say more than which units there are."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.stem(x).index_select(1, self.buffer_list + 1)
        return self.c(x * self.buffer_list[:, None, None])

    return Parts(run, stem=nn.Conv2d(3, 8, 1), c=nn.Conv2d(6, 5, 1), buffer_list=torch.arange(6))


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


# --- what stays, and says why ---------------------------------------------------------------------------------------


@net(
    "unknown_op",
    [TOKENS],
    axes={"a": 8},
    frozen={"b.weight[0]": "no rule for aten::_fft_r2c"},
    unknown=["aten::_fft_r2c"],
    params=(6 * 8 + 8) + (8 * 4 + 4) + (3 * 5 + 5),
    macs=10 * (6 * 8 + 8 * 4 + 3 * 5),
)
def unknown_op() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        return self.c(torch.fft.rfft(self.b(self.a(x).relu())).abs())

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
    """`forward(x, brief)` gives None for what it leaves out."""

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


@functools.cache
def graph_of(name: str) -> Graph:
    """The Graph of a network, traced once."""
    return secateur.trace(NETS[name].make(), NETS[name].example())
