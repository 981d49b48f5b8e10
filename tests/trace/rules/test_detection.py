"""torchvision's own ops: all laws on tiny networks that use them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
import secateur
from nets import Parts

ops = pytest.importorskip("torchvision.ops", reason="torchvision is not installed (extra vision)")

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
BOXES = torch.tensor([[0, 0.0, 0.0, 5.0, 5.0], [1, 1.0, 2.0, 7.0, 6.0], [0, 3.0, 3.0, 8.0, 8.0]])


def heads_of_regions(pool: Callable[..., Tensor], channels: int) -> nn.Module:
    run = lambda self, x, boxes: self.c(pool(self.a(x), boxes, 2).flatten(1))  # noqa: E731
    return Parts(run, a=nn.Conv2d(3, 12, 1), c=nn.Linear(channels * 4, 5))


def regions_by_place() -> nn.Module:
    run = lambda self, x, boxes: self.c(ops.ps_roi_align(self.a(x).relu(), boxes, 2).mean((2, 3)))  # noqa: E731
    return Parts(run, a=nn.Conv2d(3, 24, 1), c=nn.Linear(6, 5))


def deformable(groups: int) -> nn.Module:
    """One offset for all channels, or one for each half of them."""

    def run(self: Any, x: Tensor, boxes: Tensor) -> Tensor:
        return self.c(self.deform(self.a(x), self.offset(x), self.mask(x).sigmoid()).relu())

    return Parts(
        run,
        a=nn.Conv2d(3, 12, 1),
        offset=nn.Conv2d(3, 18 * groups, 3, padding=1),
        mask=nn.Conv2d(3, 9 * groups, 1),
        deform=ops.DeformConv2d(12, 8, 3, padding=1, groups=groups),
        c=nn.Conv2d(8, 5, 1),
    )


def suppressed() -> nn.Module:
    """A small detector: boxes and scores from one layer, the best of them kept."""

    def run(self: Any, x: Tensor, boxes: Tensor) -> Tensor:
        found = self.b(self.a(x).relu()).flatten(2).transpose(1, 2).flatten(0, 1)
        corners = found[:, :2].sigmoid() * 8
        kept = ops.nms(torch.cat([corners, corners + found[:, 2:4].exp()], 1), found[:, 4], 0.5)
        return found[kept]

    return Parts(run, a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 5, 1))


NETS: dict[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "roi_align": (lambda: heads_of_regions(ops.roi_align, 12), {"a": 12}),
    "roi_pool": (lambda: heads_of_regions(ops.roi_pool, 12), {"a": 12}),
    "ps_roi_align": (regions_by_place, {"a": 6}),
    "deformable": (lambda: deformable(1), {"a": 12, "deform": 8}),
    "deformable_groups": (lambda: deformable(2), {"a": 6, "deform": 4}),
}


@pytest.mark.parametrize("name", NETS)
def test_all_laws(name: str, tmp_path: Path) -> None:
    build, axes = NETS[name]
    graph = secateur.trace(build(), (IMAGE, BOXES))
    assert {axis.name: axis.size for axis in graph.axes} == axes
    assert not graph.unknown
    laws.check_all(build, (IMAGE, BOXES), tmp_path / "pruned.safetensors", target="channels=0.6")


def test_boxes_that_are_suppressed() -> None:
    """How many there are is data, so the trace runs on real tensors; whatever made them can be cut all the same."""
    model = laws.randomized(suppressed())
    graph = secateur.trace(model, (IMAGE, BOXES))
    assert {axis.name: axis.size for axis in graph.axes} == {"a": 8}
    assert not graph.unknown
    plan = secateur.plan(graph, "channels=0.6", importance="random")
    pruned = secateur.cut(model, plan)
    laws.check_verified(model, pruned, plan, (IMAGE, BOXES))
    laws.check_cost(pruned, plan, (IMAGE, BOXES))
