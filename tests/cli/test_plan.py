from __future__ import annotations

import json
from typing import Any

import pytest

from commands import HALF, SHAPE, Command
from secateur.cli.plan import dropped, widths
from secateur.errors import InputError
from secateur.plan.plan import Plan


def test_a_dry_run_writes_nothing(secateur: Command, files) -> None:  # type: ignore[no-untyped-def]
    before = files()
    assert "plan for macs=0.5" in secateur("plan", secateur.net, *SHAPE, *HALF)
    assert files() == before


def test_json_is_a_plan(secateur: Command) -> None:
    plan = Plan.from_json(json.dumps(secateur.json("plan", secateur.net, *SHAPE, *HALF)))
    assert plan.after.macs <= plan.before.macs / 2


def test_all_targets_are_met(secateur: Command) -> None:
    targets = ("--target", "macs=0.6", "--target", "params=0.3")
    plan = Plan.from_json(json.dumps(secateur.json("plan", secateur.net, *SHAPE, *targets)))
    assert plan.after.macs <= 0.6 * plan.before.macs
    assert plan.after.params <= 0.3 * plan.before.params


@pytest.mark.parametrize("importance", ["l1", "l2", "bn_scale", "random"])
@pytest.mark.parametrize("scope", ["global", "axis", "isomorphic"])
def test_criteria_and_scopes(secateur: Command, importance: str, scope: str) -> None:
    text = secateur("plan", secateur.net, *SHAPE, *HALF, "--importance", importance, "--scope", scope)
    assert f"importance {importance}, scope {scope}" in text


def test_limits(secateur: Command) -> None:
    plan = secateur.json("plan", secateur.net, *SHAPE, "--target", "channels=0.6", "--protect", "conv1", "--align", "4")
    assert len(plan["axes"]["conv1"]["kept"]) == 12
    assert len(plan["axes"]["conv2"]["kept"]) == 8


def counts(plan: dict[str, Any]) -> dict[str, int]:
    return {name: len(axis["kept"]) for name, axis in plan["axes"].items()}


def test_rules_and_files_of_rules(secateur: Command) -> None:
    """conv1 of 12 and conv2 of 16; later words count."""
    file = secateur.folder / "rules.yaml"
    file.write_text("select:\n  - conv1: keep=0.5\n  - {match: conv2, width: 4}\n")
    arguments = ("plan", secateur.net, *SHAPE, "--select")
    assert counts(secateur.json(*arguments, "conv1: keep=0.25")) == {"conv1": 3, "conv2": 16}
    assert counts(secateur.json(*arguments, file)) == {"conv1": 6, "conv2": 4}
    assert counts(secateur.json(*arguments, file, "--select", "type=Conv2d: keep=0.75")) == {"conv1": 9, "conv2": 12}
    assert counts(secateur.json(*arguments, file, "--width", "conv2=5")) == {"conv1": 6, "conv2": 5}


def test_only_and_ceiling(secateur: Command) -> None:
    arguments = ("plan", secateur.net, *SHAPE)
    assert counts(secateur.json(*arguments, "--ceiling", "10")) == {"conv1": 10, "conv2": 10}
    assert counts(secateur.json(*arguments, "--target", "channels=0.5", "--only", "conv2")) == {"conv1": 12, "conv2": 8}


def test_by_hand(secateur: Command) -> None:
    plan = secateur.json("plan", secateur.net, *SHAPE, "--drop", "conv1=2,6,9", "--width", "conv2=5")
    assert plan["axes"]["conv1"]["kept"] == [0, 1, 3, 4, 5, 7, 8, 10, 11]
    assert len(plan["axes"]["conv2"]["kept"]) == 5


def test_random_importance_follows_the_seed(secateur: Command) -> None:
    arguments = ("plan", secateur.net, *SHAPE, *HALF, "--importance", "random")
    first, again, other = (secateur.json(*arguments, "--seed", seed)["axes"] for seed in (1, 1, 2))
    assert first == again != other


WRONG = {
    "nothing": ([], "nothing to do: give --target macs=0.5, or --width NAME=COUNT"),
    "malformed": (["--target", "half"], "target 'half'"),
    "kind": (["--target", "mac=0.5"], "target 'mac=0.5'; did you mean 'macs'?"),
    "number": (["--target", "macs=x"], "'x' is not a number"),
    "zero": (["--target", "macs=0"], "what remains must be more than 0"),
    "share": (["--target", "channels=2"], "channels take a share of up to 1"),
    "above": (["--target", "params=1e9"], "the model has only"),
    "unreachable": (["--target", "macs=0.001"], "cannot be reached: the smallest possible is "),
    "protect": (
        [*HALF, "--protect", "conv3"],
        "--protect names 'conv3', which matches no parameter; did you mean 'conv",
    ),
    "width": (["--width", "conv3=4"], "no prunable axis is named 'conv3'; did you mean 'conv"),
    "wide": (["--width", "conv1=40"], "--width sets 'conv1' to 40; it has 12 units"),
    "word": (["--width", "conv1=wide"], "--width 'conv1=wide': 'wide' is not a number; write --width conv1=16"),
    "bare": (["--width", "conv1"], "--width 'conv1'; write --width conv1=16"),
    "twice": (["--width", "conv1=4", "--width", "conv1=5"], "--width names 'conv1' twice; keep one"),
    "unit": (["--drop", "conv1=99"], "--drop names unit 99 of 'conv1', whose 12 units are 0 to 11"),
    "units": (["--drop", "conv1=1;2"], "--drop 'conv1=1;2': '1;2' is not a number"),
    "importance": ([*HALF, "--importance", "l3"], "no importance is named 'l3'; did you mean 'l"),
    "scope": ([*HALF, "--scope", "local"], "scope='local' is not a scope\nuse one of 'global', 'axis', 'isomorphic'"),
    "align": ([*HALF, "--align", "0"], "align=0"),
    "floor": ([*HALF, "--floor", "-1"], "floor=-1"),
    "ceiling": ([*HALF, "--ceiling", "0.05"], "floor=0.1 is above ceiling=0.05"),
    "only": ([*HALF, "--only", "conv3"], "--only names 'conv3', which matches no parameter; did you mean 'conv"),
    "rule": ([*HALF, "--select", "conv1 keep=0.5"], "rule 'conv1 keep=0.5' has no colon"),
    "setting": ([*HALF, "--select", "conv1: kep=0.5"], "no setting is named 'kep'; did you mean 'keep'?"),
    "file": ([*HALF, "--select", "nothing.yaml"], "no file nothing.yaml"),
    "to do": (["--select", "conv1: floor=3"], "nothing to do: give a target such as 'macs=0.5', --drop NAME=UNITS or"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_wishes(secateur: Command, case: str) -> None:
    arguments, message = WRONG[case]
    assert message in secateur.fails("plan", secateur.net, *SHAPE, *arguments)


def test_the_smallest_reachable_value_is_reachable(secateur: Command) -> None:
    message = secateur.fails("plan", secateur.net, *SHAPE, "--target", "macs=0.001")
    least = message.partition("(macs=")[2].partition(")")[0]
    assert secateur("plan", secateur.net, *SHAPE, "--target", f"macs={least}")


def test_no_prunable_axis(secateur: Command) -> None:
    message = secateur.fails("plan", secateur.file("stuck"), "--input", "1x4", *HALF)
    assert "this model has no prunable axis" in message
    assert "weight[0]: model output" in message


def test_names_may_hold_an_equals_sign() -> None:
    assert widths(["a=b=3"]) == {"a=b": 3}
    assert dropped(["a=b=3, 4"]) == {"a=b": [3, 4]}


def test_a_width_is_one_number() -> None:
    with pytest.raises(InputError, match="--width 'conv1=3,4': '3,4' is not a number"):
        widths(["conv1=3,4"])
