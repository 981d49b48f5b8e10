"""Pooling, interpolation, padding and windows: channels are prunable through them, places in space are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import laws
import secateur
from nets import Parts

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Between = Callable[[Tensor], Tensor]


def net(between: Between, width: int) -> nn.Module:
    """Two convolutions, with a function of six channels between them that makes `width` channels."""
    return Parts(
        lambda self, x: self.b(between(self.a(x).relu())).mean((2, 3)), a=nn.Conv2d(3, 6, 1), b=nn.Conv2d(width, 4, 1)
    )


def unfolded(x: Tensor) -> Tensor:
    return F.unfold(x, 2, stride=2).unflatten(-1, (4, 4))


def folded(x: Tensor) -> Tensor:
    return F.fold(F.unfold(x, 3, padding=1), (8, 8), 3, padding=1)


def windows(x: Tensor) -> Tensor:
    return x.unfold(2, 4, 2).mean(-1)


THROUGH: dict[str, tuple[Between, int]] = {
    "average": (lambda x: F.avg_pool2d(x, 2), 6),
    "largest": (lambda x: F.max_pool2d(x, 3, stride=2, padding=1), 6),
    "adaptive": (lambda x: F.adaptive_avg_pool2d(x, 3), 6),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), 6),
    "bilinear": (lambda x: F.interpolate(x, size=(5, 7), mode="bilinear", align_corners=False), 6),
    "reflected": (lambda x: F.pad(x, (1, 2, 2, 1), mode="reflect"), 6),
    "padded with ones": (lambda x: F.pad(x, (1, 1, 0, 2), value=1.0), 6),
    "cropped": (lambda x: F.pad(x, (-1, -1, -2, 0)), 6),
    "windows as channels": (unfolded, 24),
    "overlapping windows": (folded, 6),
    "windows along an edge": (windows, 6),
}


@pytest.mark.parametrize("name", THROUGH)
def test_all_laws(name: str, tmp_path: Path) -> None:
    between, width = THROUGH[name]
    graph = secateur.trace(net(between, width), IMAGE)
    assert {axis.name: axis.size for axis in graph.axes} == {"a": 6}
    assert not graph.unknown
    laws.check_all(lambda: net(between, width), IMAGE, tmp_path / "pruned.safetensors", target="channels=0.5")


def test_every_place_of_a_window_follows_its_channel() -> None:
    model = net(unfolded, 24)
    pruned = secateur.cut(model, secateur.plan(secateur.trace(model, IMAGE), drop={"a": [1, 5]}))
    kept = [place for channel in (0, 2, 3, 4) for place in range(4 * channel, 4 * channel + 4)]
    assert torch.equal(pruned.get_parameter("b.weight"), model.get_parameter("b.weight")[:, kept])


FROZEN: dict[str, tuple[Between, int, str]] = {
    "channels cropped": (lambda x: F.pad(x, (0, 0, 0, 0, -1, 0)), 5, "cropped by negative padding"),
    "windows of channels": (lambda x: x.unfold(1, 2, 2).mean(-1), 3, "windows run along it"),
    "pooled channels": (
        lambda x: F.max_pool1d(x.flatten(2).transpose(1, 2), 2).transpose(1, 2)[..., None],
        3,
        "spatial",
    ),
}


@pytest.mark.parametrize("name", FROZEN)
def test_what_takes_channels_for_places_keeps_them(name: str) -> None:
    between, width, reason = FROZEN[name]
    graph = secateur.trace(net(between, width), IMAGE)
    reasons: dict[Any, str] = {(one.name, one.dim): one.reason for one in graph.frozen}
    assert reason in reasons["a.weight", 0]


def test_padding_around_channels_stays_where_it_is(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return net(lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)), 9)

    laws.check_all(build, IMAGE, tmp_path / "pruned.safetensors", target="channels=0.5")
    model = build()
    pruned = secateur.cut(model, secateur.plan(secateur.trace(model, IMAGE), drop={"a": [0]}))
    assert torch.equal(pruned.get_parameter("b.weight"), model.get_parameter("b.weight")[:, [0, 2, 3, 4, 5, 6, 7, 8]])
