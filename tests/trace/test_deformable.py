"""Deformable attention: heads folded into the batch of images are those of the places at which these are sampled."""

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

HEADS, POINTS, WIDTH = 4, 2, 32
Q, HIGH, WIDE = 5, 6, 6


def inputs(batch: int) -> tuple[Tensor, Tensor]:
    """Queries and an image."""
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, Q, WIDTH, generator=generator), torch.randn(batch, WIDTH, HIGH, WIDE, generator=generator)


def images(self: Any, v: Tensor) -> Tensor:
    """(b, c, h, w) -> (b*heads, d, h, w)"""
    value = self.val(v.flatten(2).transpose(1, 2)).view(v.shape[0], HIGH * WIDE, self.heads, -1)
    return value.permute(0, 2, 3, 1).reshape(v.shape[0] * self.heads, -1, HIGH, WIDE)


def places(self: Any, q: Tensor) -> Tensor:
    """(b, q, c) -> (b*heads, q, points, 2)"""
    offsets = self.off(q).tanh().view(*q.shape[:2], self.heads, POINTS, 2)
    return offsets.transpose(1, 2).reshape(-1, q.shape[1], POINTS, 2)


def back(self: Any, y: Tensor, b: int) -> Tensor:
    """(b*heads, d, q) -> (b, q, out)"""
    return self.out(y.view(b, -1, Q).transpose(1, 2))


def summed(self: Any, q: Tensor, v: Tensor) -> Tensor:
    return back(self, F.grid_sample(images(self, v), places(self, q), align_corners=False).sum(-1), len(q))


def weighed(self: Any, q: Tensor, v: Tensor) -> Tensor:
    """Points are weighed by a softmax over them, heads in the batch there too."""
    weights = self.attention(q).view(*q.shape[:2], self.heads, POINTS).softmax(-1)
    weights = weights.transpose(1, 2).reshape(-1, 1, Q, POINTS)
    sampled = F.grid_sample(images(self, v), places(self, q), align_corners=False)
    return back(self, (sampled * weights).sum(-1), len(q))


def in_space(self: Any, q: Tensor, v: Tensor) -> Tensor:
    """Volumes one voxel deep."""
    grid = F.pad(places(self, q), (0, 1)).unsqueeze(1)
    sampled = F.grid_sample(images(self, v).unsqueeze(2), grid, align_corners=False)
    return back(self, sampled.squeeze(2).sum(-1), len(q))


def one_image_for_all(self: Any, q: Tensor, v: Tensor) -> Tensor:
    """Every head samples the same image."""
    image = self.val(v.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (HIGH, WIDE))
    image = image.unsqueeze(1).expand(-1, self.heads, -1, -1, -1).flatten(0, 1)
    y = F.grid_sample(image, places(self, q), align_corners=False).sum(-1)
    return self.wide(y.view(len(q), -1, Q).transpose(1, 2))


WRITTEN: dict[str, tuple[Callable[..., Tensor], dict[str, tuple[int, str]]]] = {
    "summed": (summed, {"off": (HEADS, "head"), "val": (8, "head_dim")}),
    "weighed": (weighed, {"off": (HEADS, "head"), "val": (8, "head_dim")}),
    "in_space": (in_space, {"off": (HEADS, "head"), "val": (8, "head_dim")}),
    "one_image_for_all": (one_image_for_all, {"off": (HEADS, "head"), "val": (WIDTH, "head_dim")}),
}


def build(name: str) -> nn.Module:
    layers = {"off": nn.Linear(WIDTH, HEADS * POINTS * 2), "val": nn.Linear(WIDTH, WIDTH), "out": nn.Linear(WIDTH, 8)}
    if name == "weighed":
        layers["attention"] = nn.Linear(WIDTH, HEADS * POINTS)
    if name == "one_image_for_all":
        layers |= {"wide": nn.Linear(WIDTH * HEADS, 8)}
        del layers["out"]
    return Parts(WRITTEN[name][0], heads=HEADS, **layers)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", WRITTEN)
def test_heads_of_images_are_those_of_places(name: str, batch: int, tmp_path: Path) -> None:
    x = inputs(batch)
    graph = secateur.trace(build(name), x)
    assert {axis.name: (axis.size, axis.kind) for axis in graph.axes} == WRITTEN[name][1]
    laws.check_all(lambda: build(name), x, tmp_path / "pruned.safetensors", target="channels=0.6")


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", WRITTEN)
def test_heads_are_cut_by_their_kind(name: str, batch: int) -> None:
    model, x = laws.randomized(build(name)), inputs(batch)
    result = secateur.prune(model, x, "channels=0.99", select=["kind=head: keep=0.5"], importance="random")
    assert result.plan.axes["off"].kept_count == HEADS // 2
    laws.check_verified(model, result.model, result.plan, x)


def test_images_of_a_batch_are_no_heads() -> None:
    """A batch that comes from outside holds nothing that could be folded into it."""
    run = lambda self, x, grid: self.b(F.grid_sample(self.a(x), grid, align_corners=False))  # noqa: E731
    model = Parts(run, a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 2, 1))
    graph = secateur.trace(model, (torch.randn(2, 3, 6, 6), torch.rand(2, 4, 4, 2)))
    assert {axis.name: axis.kind for axis in graph.axes} == {"a": "channel"}
