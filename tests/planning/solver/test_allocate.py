from __future__ import annotations

import contextlib
import re

import numpy as np
import pytest

import secateur
from nets import NETS, graph_of
from secateur import Plan, Select, TargetError
from secateur.graph.graph import Graph
from secateur.importance import score
from secateur.planning.solver.allocate import SCOPES, Limits
from secateur.planning.solver.ladders import ladders
from secateur.planning.targets import parse_targets

CUT = [name for name, net in NETS.items() if net.axes]
TARGETS = ["macs=0.7", "params=0.6", "macs=0.6,params=0.8", "channels=0.8,macs=0.5", "params=0.95"]
SELECTS = [Select(floor=0), Select(floor=0, align=2)]
OPTIONS = [(target, select, scope) for target in TARGETS for select in SELECTS for scope in SCOPES]


def counts_of(plan: Plan, graph: Graph) -> np.ndarray:
    return np.array([plan.axes[axis.name].kept_count for axis in graph.axes], dtype=np.int64)


def planned(name: str, target: str, select: Select, scope: str) -> Plan | None:
    """A plan, or None where the target is out of reach."""
    with contextlib.suppress(TargetError):
        return secateur.plan(graph_of(name), target, select=select, scope=scope)


def fits(graph: Graph, counts: np.ndarray, target: str) -> bool:
    limits, cost = Limits.of(graph, parse_targets(target)), graph.cost
    return all(getattr(cost, kind)(counts) <= limit for kind, limit in limits.costs.items())


def too_far_from(graph: Graph, counts: np.ndarray, target: str, select: Select) -> list[str]:
    """Groups above where the share of channels puts them, and those that could stand one rung higher and still fit."""
    limits, found = Limits.of(graph, parse_targets(target)), []
    start = counts_of(secateur.plan(graph, f"channels={limits.share}", select=select), graph)
    for g, ladder in enumerate(ladders(graph, score(graph, "l2"), select.on(graph), "global")):
        members = np.array([i for i, axis in enumerate(graph.axes) if axis.group == g])
        unit = graph.cost.full[members] // graph.groups[g].steps
        level = counts[members[0]] // unit[0]
        top = start[members[0]] // unit[0]
        above = min((higher for higher in ladder.levels if level < higher <= top), default=level)
        more = counts.copy()
        more[members] = unit * above
        if level > top or (above > level and fits(graph, more, target)):
            found.append(graph.axes[members[0]].name)
    return found


@pytest.mark.parametrize("name", CUT)
def test_targets_are_met_from_below_and_no_step_could_be_taken_back(name: str) -> None:
    graph = graph_of(name)
    for target, select, scope in OPTIONS:
        plan = planned(name, target, select, scope)
        if plan is not None:
            counts = counts_of(plan, graph)
            assert (fits(graph, counts, target), too_far_from(graph, counts, target, select)) == (True, [])


def test_most_of_these_targets_can_be_reached() -> None:
    plans = [planned(name, target, SELECTS[0], "global") for name in CUT for target in TARGETS]
    assert sum(plan is not None for plan in plans) > 0.8 * len(plans)


@pytest.mark.parametrize("target", ["macs=0.5", "params=0.5"])
def test_the_checker_notices_a_unit_too_few_or_too_many(target: str) -> None:
    graph = graph_of("plain_cnn")
    counts = counts_of(secateur.plan(graph, target), graph)
    assert too_far_from(graph, counts - 1, target, SELECTS[0]) != []
    assert not fits(graph, counts + 1, target)


@pytest.mark.parametrize(
    ("target", "limits"),
    [
        ("macs=0.5", Limits({"macs": 8760})),
        ("params=600", Limits({"params": 600})),
        ("params=0.5,params=600", Limits({"params": 600})),
        ("channels=0.7,macs=9000,channels=0.6", Limits({"macs": 9000}, share=0.6)),
    ],
)
def test_the_strictest_target_of_a_kind_counts(target: str, limits: Limits) -> None:
    assert Limits.of(graph_of("plain_cnn"), parse_targets(target)) == limits


@pytest.mark.parametrize("kind", ["macs", "params"])
@pytest.mark.parametrize("name", CUT)
def test_an_impossible_target_says_what_is_possible(name: str, kind: str) -> None:
    graph = graph_of(name)
    with pytest.raises(TargetError, match=f"target {kind}=2 cannot be reached: the smallest possible is") as caught:
        secateur.plan(graph, f"{kind}=2")
    ((count, share),) = re.findall(r"possible is ([\d,]+) \((\w+=[\d.]+)\)", str(caught.value))
    least = getattr(secateur.plan(graph, f"{kind}={count.replace(',', '')}").after, kind)
    assert least == int(count.replace(",", ""))
    assert getattr(secateur.plan(graph, share).after, kind) == least


def test_of_several_targets_only_the_impossible_ones_are_named() -> None:
    with pytest.raises(TargetError) as caught:
        secateur.plan(graph_of("plain_cnn"), ["macs=0.001", "params=0.9"], select=Select(floor=0.5))
    assert str(caught.value).splitlines() == [
        "target macs=0.001 cannot be reached: the smallest possible is 7,896 (macs=0.4507)",
        "lower select.floor, protect and fix less, or see print(graph) for what is frozen and why",
    ]
