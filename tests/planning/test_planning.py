from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import nn

import secateur
from nets import NETS, Parts, graph_of
from secateur import InputError, Plan, Select, TargetError
from secateur.errors import FileError

CUT = [name for name, net in NETS.items() if net.axes]


def planned(name: str, target: str | None = None, **options: Any) -> Plan:
    return secateur.plan(graph_of(name), target, **options)


def lost(plan: Plan) -> dict[str, int]:
    return {name: axis.size - axis.kept_count for name, axis in plan.dropped()}


@pytest.mark.parametrize("name", CUT)
def test_json_round_trip_is_identity(name: str) -> None:
    plan = planned(name, "channels=0.6")
    assert Plan.from_json(plan.to_json()) == plan
    assert json.loads(plan.to_json())["format"] == 1


@pytest.mark.parametrize("name", CUT)
def test_a_plan_read_back_cuts_alike(name: str) -> None:
    plan = planned(name, "channels=0.6")
    again = Plan.from_json(plan.to_json())
    assert {site: again.positions(site) for site in plan.sites} == {site: plan.positions(site) for site in plan.sites}


@pytest.mark.parametrize("name", CUT)
def test_shapes_are_those_of_the_positions(name: str) -> None:
    plan = planned(name, "channels=0.6")
    for site in plan.sites:
        kept = [n if k is None else len(k) for n, k in zip(plan.old_shape(site), plan.positions(site), strict=True)]
        assert plan.shape(site) == tuple(kept)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is not a secateur plan"),
        ("[]", "this is not a secateur plan"),
        ("{}", "this is not a secateur plan: KeyError: 'format'"),
        ('{"format": 2}', "the plan has format 2; this secateur reads format 1\nupdate secateur"),
        ('{"format": 1}', "this is not a secateur plan: KeyError"),
        ('{"format": 1, "axes": {"a": 3}}', "this is not a secateur plan: TypeError"),
    ],
)
def test_text_that_is_no_plan(text: str, message: str) -> None:
    with pytest.raises(FileError, match=message):
        Plan.from_json(text)


@pytest.fixture
def threads() -> Any:
    found = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(found)


@pytest.mark.parametrize("importance", ["l1", "l2", "bn_scale", "random"])
@pytest.mark.parametrize("name", ["plain_cnn", "attention", "group_norm"])
def test_same_seed_same_plan_whatever_the_thread_count(name: str, importance: str, threads: Any) -> None:
    plans = []
    for count in (1, 2, 3):
        threads(count)
        graph = secateur.trace(NETS[name].make(), NETS[name].example())
        plans.append(secateur.plan(graph, "params=0.6", importance=importance, seed=3).to_json())
    assert len(set(plans)) == 1


def test_another_seed_another_random_plan() -> None:
    plans = {planned("plain_cnn", "params=0.6", importance="random", seed=seed).to_json() for seed in range(4)}
    assert len(plans) == 4


def test_equal_scores_keep_the_lower_index() -> None:
    plan = planned("plain_cnn", "channels=0.5", importance={"conv1": torch.ones(8), "conv2": torch.zeros(12)})
    assert (plan.axes["conv1"].kept, plan.axes["conv2"].kept) == ((0, 1, 2, 3), (0, 1, 2, 3, 4, 5))


def test_planning_leaves_random_state_and_model_alone() -> None:
    graph, state = graph_of("plain_cnn"), torch.get_rng_state()
    before = {name: value.clone() for name, value in graph.model.state_dict().items()}
    secateur.plan(graph, "macs=0.5", importance="random")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in graph.model.state_dict().items())


def test_the_worst_units_of_the_whole_network_go_first() -> None:
    scores = {"conv1": torch.arange(8.0) + 100, "conv2": torch.arange(12.0)}
    plan = planned("plain_cnn", "params=0.8", importance=scores, select=Select(floor=0))
    assert plan.axes["conv1"].kept_count == 8
    assert plan.axes["conv2"].kept == tuple(range(12 - plan.axes["conv2"].kept_count, 12))


def test_scope_axis_takes_the_same_share_of_each() -> None:
    scores = {"conv1": torch.arange(8.0) + 100, "conv2": torch.arange(12.0)}
    plan = planned("plain_cnn", "params=0.5", importance=scores, scope="axis")
    shares = [axis.kept_count / axis.size for axis in plan.axes.values()]
    assert max(shares) - min(shares) <= 1 / 8


@pytest.mark.parametrize(("share", "expected"), [(0.99, 7), (0.875, 7), (0.874, 6), (0.5, 4), (0.01, 1), (1.0, 8)])
def test_channels_are_rounded_down_and_never_to_nothing(share: float, expected: int) -> None:
    assert planned("plain_cnn", f"channels={share}").axes["conv1"].kept_count == expected


def test_units_of_groups_are_chosen_for_each_group() -> None:
    scores = {"a[1]": torch.tensor([[0.0, 1, 2, 3], [3, 2, 1, 0], [0, 3, 0, 3]])}
    plan = planned("group_norm", importance=scores, select=Select(widths={"a[1]": 2}))
    assert plan.axes["a[1]"].kept == ((2, 3), (0, 1), (1, 3))


@pytest.mark.parametrize(
    ("name", "drop", "kept"),
    [
        ("plain_cnn", {"conv1": [2, 6]}, {"conv1": (0, 1, 3, 4, 5, 7)}),
        ("plain_cnn", {"conv1": [6, 2, 2, 6, 6]}, {"conv1": (0, 1, 3, 4, 5, 7)}),
        ("plain_cnn", {"conv1": torch.tensor([2, 6])}, {"conv1": (0, 1, 3, 4, 5, 7)}),
        ("plain_cnn", {"conv1": range(1, 8)}, {"conv1": (0,)}),
        ("plain_cnn", {"conv1": [0], "conv2": []}, {"conv1": (1, 2, 3, 4, 5, 6, 7)}),
        ("residual", {"shortcut": [0], "b": [3]}, {"b": (1, 2, 4, 5, 6, 7, 8, 9, 10, 11)}),
        ("c2f", {"a[0]": [1], "a[1]": [3]}, {"a[0]": (0, 2, 3), "a[1]": (0, 1, 2)}),
        ("group_norm", {"a[1]": [0, 3]}, {"a[1]": ((1, 2), (1, 2), (1, 2))}),
        ("channel_shuffle", {"a": [1]}, {"a": ((0, 2, 3), (0, 2, 3), (0, 2, 3))}),
    ],
)
def test_drop(name: str, drop: Mapping[str, Sequence[int]], kept: Mapping[str, tuple[int, ...]]) -> None:
    plan = planned(name, drop=drop)
    assert {axis: plan.axes[axis].kept for axis, _ in plan.dropped()} == kept


@pytest.mark.parametrize("values", [torch.arange(8.0) - 9, torch.arange(8.0)])
def test_dropped_units_go_whatever_they_score(values: torch.Tensor) -> None:
    plan = planned("plain_cnn", drop={"conv1": [7, 5]}, importance={"conv1": values})
    assert plan.axes["conv1"].kept == (0, 1, 2, 3, 4, 6)


def test_what_a_tied_axis_loses_is_chosen_by_score() -> None:
    plan = planned("c2f", drop={"a[0]": [1]}, importance={"a[1]": torch.tensor([3.0, 1, 2, 3])})
    assert plan.axes["a[1]"].kept == (0, 2, 3)


def test_a_target_takes_more_than_hands_did() -> None:
    plan = planned("plain_cnn", "channels=0.5", drop={"conv1": [0, 7]})
    assert (plan.axes["conv1"].kept_count, plan.axes["conv2"].kept_count) == (4, 6)
    assert {0, 7}.isdisjoint(plan.axes["conv1"].kept or ())


def test_a_width_below_what_hands_leave() -> None:
    plan = planned("plain_cnn", drop={"conv1": [0, 7]}, select=Select(widths={"conv1": 3}))
    assert plan.axes["conv1"].kept_count == 3
    assert {0, 7}.isdisjoint(plan.axes["conv1"].kept or ())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("plain_cnn", {"drop": {"conv11": [1]}}, "no prunable axis is named 'conv11'; did you mean 'conv1' or 'conv2'"),
        ("plain_cnn", {"drop": {"conv1": [8]}}, "drop names unit 8 of 'conv1', whose 8 units are 0 to 7"),
        ("plain_cnn", {"drop": {"conv1": [-1]}}, "drop names unit -1 of 'conv1', whose 8 units are 0 to 7"),
        ("plain_cnn", {"drop": {"conv1": range(8)}}, "drop leaves 0 of 8 units of 'conv1'; at least 1 must stay"),
        ("squeezed", {"drop": {"b": [0, 1, 2]}}, "drop leaves 1 of 4 units of 'b'; at least 2 must stay"),
        (
            "attention",
            {"drop": {"embed": [0]}},
            "drop removes 1 units of 'embed', but with qkv.* it moves in steps of 3",
        ),
        ("c2f", {"drop": {"a[0]": [0, 1], "a[1]": [2]}}, "drop removes 1 units of 'a\\[1\\]', but another share"),
        ("plain_cnn", {"drop": {"conv1": [0]}, "select": Select(protect="conv1")}, "'conv1', which protect keeps"),
        (
            "plain_cnn",
            {"drop": {"conv1": [0]}, "select": Select(widths={"conv1": 8})},
            "drop leaves 7 units of 'conv1'",
        ),
    ],
)
def test_hands_that_ask_for_what_cannot_be(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        planned(name, **options)


@pytest.mark.parametrize(
    ("target", "options", "error", "message"),
    [
        (None, {}, InputError, "nothing to do: give a target such as 'macs=0.5', drop=.* or Select\\(widths"),
        ([], {}, InputError, "nothing to do"),
        (
            "macs=0.5",
            {"scope": "layer"},
            InputError,
            "scope='layer' is not a scope\nuse one of 'global', 'axis', 'isomorphic'",
        ),
        ("macs=0.5", {"importance": "l3"}, InputError, "no importance is named 'l3'; did you mean 'l"),
        ("macs=20000", {}, TargetError, "target macs=20000: the model has only 17,520 macs\ngive a share of up to 1"),
        ("params=1.5", {}, TargetError, "target params=1.5 cannot be reached"),
    ],
)
def test_arguments_that_cannot_be(target: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        planned("plain_cnn", target, **options)


def test_a_model_without_prunable_axes_says_why() -> None:
    graph = secateur.trace(nn.Linear(3, 4), torch.zeros(1, 3))
    with pytest.raises(InputError) as caught:
        secateur.plan(graph, "macs=0.5")
    assert "this model has no prunable axis\n  weight[0]: model output\n  weight[1]: model input" in str(caught.value)


def guarded(limit: int) -> nn.Module:
    def run(self: Any, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        return self.b(x if x.shape[-1] > limit else x * 2)

    return Parts(run, a=nn.Linear(3, 8), b=nn.Linear(8, 2))


@pytest.mark.parametrize(("limit", "expected"), [(3, 4), (4, 5), (6, 7), (20, 4)])
def test_an_axis_goes_no_lower_than_a_comparison_allows(limit: int, expected: int) -> None:
    graph = secateur.trace(guarded(limit), torch.zeros(1, 3))
    assert secateur.plan(graph, "channels=0.5").axes["a"].kept_count == expected


def test_a_width_that_turns_a_comparison_is_refused_with_its_line() -> None:
    graph = secateur.trace(guarded(4), torch.zeros(1, 3))
    with pytest.raises(
        InputError, match=r"no plan keeps this condition true: the comparison at planning/test_planning\.py:"
    ):
        secateur.plan(graph, select=Select(widths={"a": 4}))
