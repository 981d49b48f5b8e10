"""Scope "isomorphic": classes of axes that play the same part keep the same share, each its highest scores."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from nets import NETS, graph_of
from secateur import Plan, Select
from secateur.graph.graph import Graph
from secateur.graph.parts import PrunableAxis
from secateur.importance import score
from secateur.planning.solver.bundles import Bundle, bundled
from secateur.planning.solver.isomorphic import classes, keys, signature
from secateur.planning.solver.ladders import ladders
from secateur.planning.solver.rungs import Rungs
from secateur.planning.solver.step_weights import worth

CUT = [name for name, net in NETS.items() if net.axes]


def bundles_of(graph: Graph, select: Select) -> list[Bundle]:
    wishes = select.on(graph)
    rungs = ladders(graph, score(graph, "l2"), wishes, "isomorphic")
    return bundled(graph, rungs, wishes, worth(graph, relative=False))


def shares(bundles: list[Bundle], mine: np.ndarray, chosen: np.ndarray) -> tuple[float, float]:
    """What share of the free units of a class has gone on these rungs, and what share its greatest step takes."""
    free = [(b, r) for b, r, is_mine in zip(bundles, chosen, mine, strict=True) if is_mine and b.price]
    total = sum(np.dot(b.steps, b.worth) for b, _ in free)
    gone = sum(np.dot(np.subtract(b.steps, b.levels[r]), b.worth) for b, r in free)
    return gone / total, max((-np.diff(b.levels, axis=0) @ np.array(b.worth)).max() for b, _ in free) / total


@pytest.mark.parametrize("name", CUT)
def test_what_goes_by_a_threshold_is_the_same_share_of_each_class(name: str) -> None:
    graph = graph_of(name)
    bundles = bundles_of(graph, Select(floor=0))
    rungs, of = Rungs(graph, bundles), classes(graph, bundles)
    key = keys(rungs, bundles, of, np.zeros(len(bundles), dtype=np.intp))
    for threshold in (0.2, 0.5, 0.8):
        chosen = np.bincount(rungs.owner[key <= threshold], minlength=len(bundles))
        for number in set(of[rungs.height > 0].tolist()):
            gone, step = shares(bundles, of == number, chosen)
            at_bottom = (chosen == rungs.height)[of == number].all()
            assert gone <= threshold + 1e-9
            assert gone > threshold - step - 1e-9 or at_bottom


def test_what_went_before_the_start_counts() -> None:
    graph = graph_of("plain_cnn")
    bundles = bundles_of(graph, Select(floor=0))
    rungs, of = Rungs(graph, bundles), np.zeros(len(bundles), dtype=np.intp)
    start = rungs.height // 2
    key = keys(rungs, bundles, of, start)
    ahead = key[np.arange(len(key)) >= (rungs.first + start)[rungs.owner]]
    total = sum(bundle.steps[0] for bundle in bundles)
    assert sorted(ahead.tolist()) == pytest.approx([(start.sum() + 1 + i) / total for i in range(len(ahead))])


class Residual(nn.Module):
    """A stream of 16 channels, and blocks of 24 inner ones."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(4, 16), nn.Linear(16, 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 16)) for _ in range(blocks)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def traced(blocks: int) -> Graph:
    torch.manual_seed(0)
    return secateur.trace(Residual(blocks), torch.zeros(2, 4))


def kept(plan: Plan, axes: list[PrunableAxis]) -> float:
    return sum(plan.axes[axis.name].kept_count for axis in axes) / sum(axis.size for axis in axes)


def by_class(graph: Graph) -> list[list[PrunableAxis]]:
    found = defaultdict(list)
    for axis in graph.axes:
        found[signature(graph, axis)].append(axis)
    return list(found.values())


def unequal(graph: Graph) -> dict[str, torch.Tensor]:
    """Scores on a scale of its own for each axis."""
    chance = np.random.default_rng(0)
    return {a.name: torch.tensor(chance.random(a.size) * 10.0 ** (i % 3)) for i, a in enumerate(graph.axes)}


@pytest.mark.parametrize("target", ["params=0.7", "macs=0.4", "macs=0.5,params=0.6"])
def test_each_class_keeps_the_same_share(target: str) -> None:
    graph = traced(4)
    stream, inner = by_class(graph)
    plan = secateur.plan(graph, target, importance=unequal(graph), scope="isomorphic")
    assert (len(stream), len(inner)) == (1, 4)
    assert kept(plan, stream) == pytest.approx(kept(plan, inner), abs=1 / 16)


def test_what_hands_take_counts_for_the_share_of_the_class() -> None:
    graph = traced(4)
    stream, inner = by_class(graph)
    drop = {"blocks.0.0": list(range(12)), "blocks.1.0": list(range(6))}
    plan = secateur.plan(graph, "params=0.5", importance=unequal(graph), scope="isomorphic", drop=drop)
    assert kept(plan, stream) == pytest.approx(kept(plan, inner), abs=1 / 16)
    assert all(u not in (plan.axes[name].kept or ()) for name, units in drop.items() for u in units)


def test_what_a_rule_fixes_has_no_say_in_the_share() -> None:
    graph = traced(4)
    stream, inner = by_class(graph)
    select = Select.of(["blocks.0.0: keep=1"])
    plan = secateur.plan(graph, "params=0.6", importance=unequal(graph), scope="isomorphic", select=select)
    assert plan.axes["blocks.0.0"].kept_count == 24
    assert kept(plan, stream) == pytest.approx(kept(plan, inner[1:]), abs=1 / 16)


def test_within_a_class_the_lowest_scores_go() -> None:
    graph = traced(4)
    scores = unequal(graph)
    plan = secateur.plan(graph, "params=0.6", importance=scores, scope="isomorphic", select=Select(floor=0))
    _, inner = by_class(graph)
    stays = {a.name: set(plan.axes[a.name].kept or range(a.size)) for a in inner}
    goes = [float(scores[name][u]) for name, units in stays.items() for u in range(24) if u not in units and units]
    lowest = [float(scores[name][list(units)].min()) for name, units in stays.items() if len(units) > 1]
    assert goes
    assert max(goes) <= min(lowest)


@pytest.mark.parametrize("count", [1, 9, 18, 30])
def test_one_class_is_a_ranking_of_all_units(count: int) -> None:
    """Two axes between linear layers; the target is what is left without so many of the lowest units of both."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 3))
    graph = secateur.trace(net, torch.zeros(1, 4))
    scores = unequal(graph)
    free = {(name, u) for name, values in scores.items() for u in range(20) if u != int(values.argmax())}
    lowest = set(sorted(free, key=lambda unit: float(scores[unit[0]][unit[1]]))[:count])
    left = [20 - sum(name == axis.name for name, _ in lowest) for axis in graph.axes]
    target = f"params={graph.cost.params(np.array(left))}"
    plan = secateur.plan(graph, target, importance=scores, scope="isomorphic", select=Select(floor=0))
    kept = {name: axis.kept or () for name, axis in plan.axes.items()}
    assert {(name, u) for name, units in kept.items() for u in range(20) if u not in units} == lowest


def test_depth_and_width_make_no_difference() -> None:
    """A stream of four blocks beside one of nine."""
    assert {signature(traced(4), a) for a in traced(4).axes} == {signature(traced(9), a) for a in traced(9).axes}


def test_other_parts_are_other_classes() -> None:
    graph = graph_of("attention")
    kinds = {axis.name: axis.kind for axis in graph.axes}
    for axes in by_class(graph):
        assert len({kinds[axis.name] for axis in axes}) == 1


def test_groups_that_go_together_are_a_class_of_their_own() -> None:
    graph = traced(3)
    select = Select.of(["stem, blocks.0.0: together"])
    of = classes(graph, bundles_of(graph, select))
    assert sorted(np.bincount(of).tolist()) == [1, 2]


def test_measured_allocation_is_refused() -> None:
    """`allocation=` and shares of classes both say how much each axis loses."""

    class Known:
        @property
        def stays(self) -> dict[str, str]:
            return {}

        def check(self, graph: object, groups: object) -> None: ...

        def prices(self, group: object, levels: object) -> tuple[float, ...]:
            return ()

    with pytest.raises(secateur.InputError, match="scope='isomorphic' takes the same share of each class of axes"):
        secateur.plan(traced(2), "macs=0.5", scope="isomorphic", allocation=Known())  # type: ignore[arg-type]
