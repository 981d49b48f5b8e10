"""A share of channels, and a floor, is about widths: products of axes keep it once, however many factors they have."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from nets import NETS, Parts, graph_of
from secateur import Select
from secateur.graph.graph import Graph
from secateur.planning.selection.widths import products, widths

CUT = [name for name, net in NETS.items() if net.axes]
SHARES = (0.9, 0.7, 0.5, 0.3)


def attention(heads: int, size: int) -> tuple[nn.Module, Tensor]:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = (p(x).view(2, 5, self.heads, -1).transpose(1, 2) for p in (self.q, self.k, self.v))
        return self.out(self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 5, -1)))

    layers = {name: nn.Linear(12, heads * size) for name in "qkv"}
    ends = {"embed": nn.Linear(4, 12), "proj": nn.Linear(heads * size, 12), "out": nn.Linear(12, 2)}
    return Parts(run, heads=heads, **layers, **ends), torch.randn(2, 5, 4)


def multiplied(*times: int) -> tuple[nn.Module, Tensor]:
    """Depthwise convolutions that give several channels for each."""
    layers: list[nn.Module] = [nn.Conv2d(3, 20, 1)]
    width = 20
    for n in times:
        layers += [nn.Conv2d(width, width * n, 3, padding=1, groups=width), nn.ReLU()]
        width *= n
    return nn.Sequential(*layers, nn.Conv2d(width, 2, 1)), torch.randn(1, 3, 6, 6)


def group_normed(groups: int, channels: int) -> tuple[nn.Module, Tensor]:
    norm = nn.GroupNorm(groups, channels)
    return nn.Sequential(nn.Conv2d(3, channels, 1), norm, nn.ReLU(), nn.Conv2d(channels, 2, 1)), torch.randn(1, 3, 6, 6)


def grouped(groups: int, each: int) -> tuple[nn.Module, Tensor]:
    width = groups * each
    mid = nn.Conv2d(width, width, 3, groups=groups)
    return nn.Sequential(nn.Conv2d(3, width, 1), nn.ReLU(), mid, nn.Conv2d(width, 2, 1)), torch.randn(1, 3, 6, 6)


def sized(graph: Graph, axes: tuple[int, ...], plan: secateur.Plan | None = None) -> int:
    counts = (plan.axes[graph.axes[i].name].kept_count if plan else graph.axes[i].size for i in axes)
    return math.prod(counts)


@pytest.mark.parametrize("name", CUT)
def test_no_width_keeps_more_than_its_share_and_none_could_keep_more(name: str) -> None:
    graph = graph_of(name)
    for share in SHARES:
        plan = secateur.plan(graph, f"channels={share}", select=Select(floor=0))
        limits = {w: max(share * sized(graph, w.axes), _bottom(graph, w.axes)) for w in widths(graph) if w.widest}
        assert all(sized(graph, w.axes, plan) <= limit + 1e-9 for w, limit in limits.items())
        for g, group in enumerate(graph.groups):
            mine = [w for w in limits if any(graph.axes[i].group == g for i in w.axes)]
            level = plan.axes[group.axes[0].name].kept_count * group.steps // group.axes[0].size
            more = [sized(graph, w.axes, plan) * (level + 1) / level for w in mine if _once(graph, w.axes, g)]
            assert level == group.steps or any(n > limits[w] for n, w in zip(more, mine, strict=False)) or not more


def _once(graph: Graph, axes: tuple[int, ...], g: int) -> bool:
    return sum(graph.axes[i].group == g for i in axes) == 1


def _bottom(graph: Graph, axes: tuple[int, ...]) -> int:
    """What a width cannot go below: one step of each factor."""
    return math.prod(graph.axes[i].size // graph.groups[graph.axes[i].group].steps * graph.axes[i].least for i in axes)


def reached(graph: Graph, target: str, select: Select) -> secateur.Plan | None:
    with contextlib.suppress(secateur.TargetError):
        return secateur.plan(graph, target, select=select)


@pytest.mark.parametrize("floor", [0.3, 0.5, 3])
@pytest.mark.parametrize("name", CUT)
def test_every_product_keeps_its_floor(name: str, floor: float) -> None:
    graph = graph_of(name)
    for target in ("channels=0.1", "params=0.8"):
        plan = reached(graph, target, Select(floor=floor))
        for width in products(graph) if plan is not None else ():
            units = sized(graph, width.axes)
            assert sized(graph, width.axes, plan) >= min(units, floor * units if floor <= 1 else floor)


@pytest.mark.parametrize(
    ("made", "share", "expected"),
    [
        (multiplied(2), 0.7, [14, 2]),
        (multiplied(2, 2, 3), 0.7, [14, 2, 2, 3]),
        (group_normed(8, 16), 0.7, [5, 2]),  # 10 of 16, where one channel of each group would leave 8
        (group_normed(8, 8), 0.7, [5]),
        (group_normed(2, 40), 0.7, [2, 14]),
        (grouped(16, 2), 0.7, [11, 2, 2]),  # groups; there are fewer channels in one than can be cut finely
        (grouped(2, 16), 0.7, [2, 11, 11]),
        (grouped(4, 4), 0.5, [4, 2, 2]),
    ],
)
def test_one_factor_takes_the_share_where_that_comes_near(
    made: tuple[nn.Module, Tensor], share: float, expected: list[int]
) -> None:
    graph = secateur.trace(made[0], (made[1],))
    plan = secateur.plan(graph, f"channels={share}")
    assert sorted(plan.axes[axis.name].kept_count for axis in graph.axes) == sorted(expected)


def heads(select: Any = None, share: float = 0.7, **sizes: int) -> dict[str, int]:
    model, x = attention(**({"heads": 12, "size": 64} | sizes))
    graph = secateur.trace(model, (x,))
    plan = secateur.plan(graph, f"channels={share}", select=select)
    return {
        f"{axis.name} {axis.kind}": plan.axes[axis.name].kept_count for axis in graph.axes if axis.kind != "channel"
    }


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        (None, (12, 44)),
        ("*: prune=heads", (8, 64)),
        ("*: prune=head_dims", (12, 44)),
        ("kind=head: keep=0.5", (6, 64)),  # explicit: fewer than the share asks for, so that nothing more goes
        ("kind=head: keep=0.75", (9, 59)),
        ("kind=head_dim: keep=0.5", (12, 32)),
        ("kind=head_dim: align=8", (11, 48)),
        ("kind=head_dim: floor=48", (9, 59)),
    ],
)
def test_heads_times_head_dimensions_keep_the_share(select: Any, expected: tuple[int, int]) -> None:
    found = heads(select)
    assert (found["q[0] head"], found["q[1] head_dim"], found["v head_dim"]) == (*expected, expected[1])


def test_few_heads_of_few_dimensions_give_up_some_of_both() -> None:
    assert set(heads(heads=4, size=8).values()) == {3, 7}


def test_what_goes_together_goes_by_the_same_share() -> None:
    found = heads("kind=head_dim: together", share=0.5)
    assert found["q[1] head_dim"] == found["v head_dim"] == 32


@pytest.mark.parametrize("scope", ["global", "axis", "isomorphic"])
def test_the_share_of_a_width_is_the_same_in_every_scope(scope: str) -> None:
    model, x = multiplied(2, 2)
    plan = secateur.plan(secateur.trace(model, (x,)), "channels=0.7", scope=scope)
    assert sorted(axis.kept_count for axis in plan.axes.values()) == [2, 2, 14]


@pytest.mark.parametrize(("floor", "least"), [(16, 16), (0.5, 384), (1, 768)])
def test_a_floor_is_one_of_the_width(floor: float, least: int) -> None:
    found = heads(Select(floor=floor), share=0.01)
    assert least <= found["q[0] head"] * found["q[1] head_dim"] <= least + 64


def test_a_floor_of_some_factors_is_about_those_alone() -> None:
    found = heads("kind=head: floor=3", share=0.01)
    assert found["q[0] head"] >= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["pit_ti_224", "pit_xs_distilled_224", "fastvit_t8", "regnetx_002", "test_efficientnet_gn"]
)
def test_real_models_of_products_keep_half(name: str) -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model(name).eval()
    plan = secateur.plan(secateur.trace(model, torch.randn(1, *model.default_cfg["input_size"])), "channels=0.7")
    assert plan.after.params >= 0.45 * plan.before.params
