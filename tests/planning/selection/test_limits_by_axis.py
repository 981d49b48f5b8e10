"""How settings meet: what rules say of an axis, ties, the target, and each other."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import secateur
from nets import NETS, graph_of
from secateur import InputError, Select
from secateur.graph.graph import Graph
from secateur.planning.solver.allocate import SCOPES

EVERYTHING = "channels=0.01"


def counts(name: str, rules: Any, target: str | None = None, **options: Any) -> dict[str, int]:
    plan = secateur.plan(graph_of(name), target, select=rules, **options)
    return {axis: plan.axes[axis].kept_count for axis in NETS[name].axes}


def cnn(rules: Any, target: str | None = None, **options: Any) -> tuple[int, int]:
    """conv1 of 8 and conv2 of 12"""
    return tuple(counts("plain_cnn", rules, target, **options).values())  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("rules", "target", "expected"),
    [
        # keep: a share, rounded down, on its own and against targets
        ("conv1: keep=0.5", None, (4, 12)),
        ("conv*: keep=0.3", None, (2, 3)),
        ("conv1: keep=0.01", None, (1, 12)),
        ("conv1: keep=0.9", EVERYTHING, (7, 2)),
        ("conv1: keep=0.9", "channels=0.5", (7, 6)),
        ("conv1: keep=1", EVERYTHING, (8, 2)),
        # within floor, ceiling and alignment
        ("conv1: keep=0.2 floor=3", None, (3, 12)),
        ("conv1: keep=0.9 ceiling=5", None, (5, 12)),
        ("conv1: keep=0.9 align=4", None, (4, 12)),
        # width
        ("conv1: width=5", None, (5, 12)),
        ("*: width=8", None, (8, 8)),
        ("conv1: width=5", "channels=0.5", (5, 6)),
        # floor, ceiling, align
        ("conv1: floor=5", EVERYTHING, (5, 2)),
        ("*: floor=0.5", EVERYTHING, (4, 6)),
        ("conv2: floor=12", EVERYTHING, (1, 12)),
        ("conv2: ceiling=7", None, (8, 7)),
        ("conv*: ceiling=0.5", None, (4, 6)),
        ("conv*: ceiling=100", "channels=0.9", (7, 10)),
        ("conv2: align=5", EVERYTHING, (1, 5)),
        ("conv2: align=5", "channels=0.9", (7, 10)),
        ("conv2: align=5 ceiling=0.99", None, (8, 10)),
        # protect and only
        ("conv1: protect", EVERYTHING, (8, 2)),
        ("conv1: only", EVERYTHING, (1, 12)),
        (["conv1: only", "conv2: only"], EVERYTHING, (1, 2)),
        (["conv*: keep=0.5", "conv1: protect"], None, (8, 6)),
        (["conv1: protect", "conv*: keep=0.5"], None, (8, 6)),
        (["conv1: protect", "conv*: ceiling=3"], None, (8, 3)),
        (["conv1: protect", "conv1: floor=2"], EVERYTHING, (8, 2)),
        (["fc: protect", "conv1: width=3"], EVERYTHING, (3, 12)),
        (["conv1: protect", "conv1: width=8"], EVERYTHING, (8, 2)),
        # of two rules the later one counts, axis by axis and setting by setting
        (["conv*: keep=0.5", "conv1: keep=0.75"], None, (6, 6)),
        (["conv1: keep=0.75", "conv*: keep=0.5"], None, (4, 6)),
        (["conv*: keep=0.5", "conv1: width=7"], None, (7, 6)),
        (["conv1: width=7", "conv*: keep=0.5"], None, (4, 6)),
        (["*: floor=6", "conv1: floor=2"], EVERYTHING, (2, 6)),
        (["*: floor=6", "conv1: align=4"], EVERYTHING, (8, 6)),
        # the same share
        ("conv*: together", "channels=0.75", (6, 9)),
        (["*: together", "conv1: keep=0.5"], None, (4, 6)),
        (["*: together", "conv1: width=3"], None, (3, 4)),
        (["*: together", "conv2: floor=9"], EVERYTHING, (6, 9)),
        (["*: together", "conv2: ceiling=6"], None, (4, 6)),
        (["*: together", "*: keep=0.3"], None, (2, 3)),
        (["*: together", "conv1: width=3", "conv2: width=5"], None, (3, 5)),
    ],
)
def test_counts(rules: Any, target: str | None, expected: tuple[int, int]) -> None:
    assert cnn(rules, target) == expected


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        (Select(floor=0.5, rules=["conv1: floor=0"]), (1, 6)),
        (Select(floor=0.5, rules=["conv1: ceiling=2"]), (2, 6)),
        (Select(ceiling=0.5, floor=0, rules=["conv2: floor=9"]), (1, 9)),
        (Select(align=4, rules=["conv2: align=1"]), (4, 2)),
        (Select(floor=0.9, rules=["conv1: width=2"]), (2, 11)),
        (Select(align=4, rules=["conv1: width=3"]), (3, 4)),
        (Select(widths={"conv1": 3}, rules=["conv1: width=5"]), (3, 2)),
        (Select(only="conv2"), (8, 2)),
        (Select(only=["conv2", "conv1"]), (1, 2)),
    ],
)
def test_general_words_yield_to_rules_and_widths_come_last(select: Select, expected: tuple[int, int]) -> None:
    assert cnn(select, EVERYTHING) == expected


def test_a_target_is_of_the_whole_model_and_the_other_axes_make_up_for_it() -> None:
    graph = graph_of("plain_cnn")
    for rule in ("conv1: keep=0.75", "conv1: width=8", "conv1: protect", "conv1: floor=7", "conv1: ceiling=3"):
        plan = secateur.plan(graph, "params=0.6", select=rule)
        assert plan.after.params <= 0.6 * plan.before.params


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("*: prune=heads", {"q[0]": 1, "q[1]": 2, "q[2]": 4, "v": 4, "embed": 12}),
        ("*: prune=head_dims", {"q[0]": 2, "q[1]": 2, "q[2]": 2, "v": 2, "embed": 12}),
        ("*: prune=heads,head_dims", {"q[0]": 2, "q[1]": 2, "q[2]": 2, "v": 2, "embed": 12}),
        ("q: prune=heads", {"q[0]": 1, "q[1]": 2, "q[2]": 4, "v": 4, "embed": 6}),
        (["*: prune=heads", "embed: prune=channels"], {"q[0]": 1, "q[1]": 2, "q[2]": 4, "v": 4, "embed": 6}),
        ("kind=head: only", {"q[0]": 1, "q[1]": 2, "q[2]": 4, "v": 4, "embed": 12}),
        ("kind=head_dim: protect", {"q[0]": 1, "q[1]": 2, "q[2]": 4, "v": 4, "embed": 6}),
        ([], {"q[0]": 2, "q[1]": 2, "q[2]": 2, "v": 2, "embed": 6}),  # half of each width, once
        ("q[1]: only", {"q[0]": 2, "q[1]": 1, "q[2]": 4, "v": 4, "embed": 12}),
    ],
)
def test_heads_or_head_dims(rules: Any, expected: dict[str, int]) -> None:
    assert counts("grouped_queries", rules, "channels=0.5") == expected


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("embed: keep=0.5", {"embed": 6, "qkv[0]": 2, "qkv[1]": 2}),
        ("qkv: keep=0.5", {"embed": 6, "qkv[0]": 2, "qkv[1]": 2}),
        (["embed: keep=0.5", "qkv: width=2"], {"embed": 6, "qkv[0]": 2, "qkv[1]": 2}),
        ("embed: ceiling=11", {"embed": 9, "qkv[0]": 3, "qkv[1]": 3}),
        ("qkv: keep=0.5 floor=3", {"embed": 9, "qkv[0]": 3, "qkv[1]": 3}),
    ],
)
def test_what_is_tied_follows(rules: Any, expected: dict[str, int]) -> None:
    assert counts("attention", rules) == expected


CONTRADICTIONS: dict[str, tuple[Any, str]] = {
    "floor": (
        ["*: floor=6", "conv1: width=4"],
        "rule 'conv1: width=4' sets 'conv1' to 4 of 8 units, against floor=6 of rule '*: floor=6'",
    ),
    "floor share": ("conv1: floor=0.75 width=5", "sets 'conv1' to 5 of 8 units, against floor=0.75 of rule"),
    "ceiling": (
        ["*: ceiling=4", "conv1: width=5"],
        "sets 'conv1' to 5 of 8 units, against ceiling=4 of rule '*: ceiling=4'",
    ),
    "align": (["*: align=4", "conv1: width=5"], "sets 'conv1' to 5 of 8 units, against align=4 of rule '*: align=4'"),
    "floor and ceiling": (
        ["conv1: floor=6", "conv1: ceiling=4"],
        "no count of 'conv1', 8 units, is at most 4 (rule 'conv1: ceiling=4'), at least 6 (rule 'conv1: floor=6')",
    ),
    "ceiling and align": (
        Select(align=4, rules=["conv1: ceiling=3"]),
        "no count of 'conv1', 8 units, is at most 3 (rule 'conv1: ceiling=3'), a multiple of 4 (align=4)",
    ),
    "protected width": (
        ["conv1: protect", "conv1: width=4"],
        "rule 'conv1: width=4' sets 'conv1' to 4, but rule 'conv1: protect' keeps it as it is",
    ),
    "protected by name": (
        Select(protect="conv1", widths={"conv1": 4}),
        "widths sets 'conv1' to 4, but protect keeps it as it is",
    ),
    "width outside": (["conv1: only", "conv2: width=4"], "sets 'conv2' to 4, but rule 'conv1: only' keeps it as it is"),
    "protected share": (
        ["conv1: protect", "conv1: keep=0.5"],
        "rule 'conv1: keep=0.5' changes nothing: rule 'conv1: protect' keeps every axis that it matches as it is",
    ),
    "too wide": ("conv1: width=9", "rule 'conv1: width=9' sets 'conv1' to 9; it has 8 units and keeps 1 or more"),
    "some too wide": ("*: width=9", "rule '*: width=9' sets 'conv1' to 9; it has 8 units"),
    "apart": (
        ["*: together", "conv1: width=2", "conv2: width=9"],
        "rule '*: together' asks for the same share, but conv1 keeps 2 of 8, conv2 keeps 9 of 12",
    ),
    "alone": (
        "conv1: together",
        "rule 'conv1: together' matches only one group of tied axes, so there is nothing to keep together: conv1",
    ),
    "alone by protection": (
        ["conv1: protect", "*: together"],
        "rule '*: together' matches only one group of tied axes",
    ),
    "no heads": (
        "conv1: prune=heads",
        "rule 'conv1: prune=head' matches no head that can be cut, only conv1 (channel)",
    ),
    "nothing to do": ("conv1: floor=2", "nothing to do: give a target"),
    "hands": (
        Select(rules=["conv1: width=8"]),
        "drop leaves 7 units of 'conv1', but rule 'conv1: width=8' asks for 8",
    ),
    "protected hands": ("conv1: protect", "drop removes units of 'conv1', which rule 'conv1: protect' keeps as it is"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions_name_both(case: str) -> None:
    rules, message = CONTRADICTIONS[case]
    options = {"drop": {"conv1": [0]}} if "hands" in case else {}
    with pytest.raises(InputError, match=re.escape(message)):
        cnn(rules, **options)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            ["embed: keep=0.5", "qkv: keep=0.25"],
            "sets 'qkv[0]' to 0.25, but it is tied to another axis with a different share",
        ),
        (["embed: keep=0.5", "qkv: width=3"], "rule 'embed: keep=0.5' sets 'embed' to 0.5"),
        ("embed: ceiling=2", "no count of 'embed', 12 units, is at most 2"),
        (
            "embed, qkv: together",
            "matches only one group of tied axes, so there is nothing to keep together: embed, qkv",
        ),
    ],
)
def test_contradictions_between_what_is_tied(rules: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        counts("attention", rules)


def far_apart(graph: Graph, kept: dict[str, int]) -> list[str]:
    """Groups that no common share explains: each keeps whole steps, rounded down."""
    low, high = 0.0, 1.0
    for group in graph.groups:
        axis = group.axes[0]
        level = kept[axis.name] * group.steps // axis.size
        low, high = max(low, level / group.steps), min(high, (level + 1) / group.steps if level < group.steps else 1.1)
    return [] if low < high else sorted(kept)


MANY = [name for name, net in NETS.items() if len(graph_of(name).groups) > 1 and net.axes]


@pytest.mark.parametrize("target", ["params=0.8", "macs=0.7", "channels=0.6"])
@pytest.mark.parametrize("scope", SCOPES)
def test_together_is_one_share_and_meets_the_target(target: str, scope: str) -> None:
    for name in MANY:
        graph = graph_of(name)
        try:
            plan = secateur.plan(graph, target, select=Select(floor=0, rules=["*: together"]), scope=scope)
        except secateur.TargetError:
            continue
        kept = {axis.name: plan.axes[axis.name].kept_count for axis in graph.axes}
        assert far_apart(graph, kept) == [], name
        kind, _, share = target.partition("=")
        if kind != "channels":
            assert getattr(plan.after, kind) <= float(share) * getattr(plan.before, kind)


def test_the_checker_notices_shares_that_differ() -> None:
    graph = graph_of("plain_cnn")
    assert far_apart(graph, {"conv1": 4, "conv2": 6}) == []
    assert far_apart(graph, {"conv1": 4, "conv2": 8}) != []


def test_bundles_that_meet_are_one() -> None:
    rules = ["embed, q[0]: together", "q[0], q[1]: together"]
    ((groups, _),) = Select.of(rules).on(graph_of("grouped_queries")).together
    assert groups == {0, 1, 3}


def test_what_goes_together_shares_the_loss() -> None:
    scores = {"conv1": torch.arange(8.0), "conv2": torch.full((12,), 100.0)}
    assert cnn(Select(floor=0), "params=0.8", importance=scores)[1] == 12
    assert cnn(Select(floor=0, rules=["*: together"]), "params=0.8", importance=scores)[1] < 12
