from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

import secateur
from nets import NETS, graph_of
from secateur import InputError, Select

EVERYTHING = "channels=0.01"


def counts(name: str, select: Select, target: str | None = EVERYTHING, **options: Any) -> dict[str, int]:
    plan = secateur.plan(graph_of(name), target, select=select, **options)
    return {axis: plan.axes[axis].kept_count for axis in NETS[name].axes}


@pytest.mark.parametrize(
    ("floor", "expected"),
    [
        (0, {"conv1": 1, "conv2": 1}),
        (0.1, {"conv1": 1, "conv2": 2}),
        (0.5, {"conv1": 4, "conv2": 6}),
        (0.51, {"conv1": 5, "conv2": 7}),
        (1.0, {"conv1": 8, "conv2": 12}),
        (3, {"conv1": 3, "conv2": 3}),
        (10, {"conv1": 8, "conv2": 10}),
    ],
)
def test_floor(floor: float, expected: dict[str, int]) -> None:
    assert counts("plain_cnn", Select(floor=floor)) == expected


@pytest.mark.parametrize("name", [name for name, net in NETS.items() if net.axes])
def test_no_axis_is_ever_emptied(name: str) -> None:
    graph = graph_of(name)
    left = counts(name, Select(floor=0))
    assert all(left[axis.name] >= max(1, axis.least) for axis in graph.axes)


@pytest.mark.parametrize("least", [0.0, 2])
def test_a_squeezed_axis_keeps_two(least: float) -> None:
    assert counts("squeezed", Select(floor=least))["b"] == 2


@pytest.mark.parametrize(
    ("align", "target", "expected"),
    [
        (4, "channels=0.9", {"conv1": 4, "conv2": 8}),
        (4, "channels=0.5", {"conv1": 4, "conv2": 4}),
        (4, EVERYTHING, {"conv1": 4, "conv2": 4}),
        (8, EVERYTHING, {"conv1": 8, "conv2": 8}),
        (16, EVERYTHING, {"conv1": 8, "conv2": 12}),
    ],
)
def test_align_never_rounds_to_nothing(align: int, target: str, expected: dict[str, int]) -> None:
    assert counts("plain_cnn", Select(align=align), target) == expected


@pytest.mark.parametrize(
    ("widths", "target", "expected"),
    [
        ({"conv1": 5}, None, {"conv1": 5, "conv2": 12}),
        ({"conv1": 5}, EVERYTHING, {"conv1": 5, "conv2": 2}),
        ({"conv1": 8, "conv2": 1}, "channels=0.5", {"conv1": 8, "conv2": 1}),
    ],
)
def test_widths(widths: dict[str, int], target: str | None, expected: dict[str, int]) -> None:
    assert counts("plain_cnn", Select(widths=widths), target) == expected


def test_a_tied_axis_takes_the_same_share() -> None:
    assert counts("attention", Select(widths={"qkv[0]": 1}), None) == {"embed": 3, "qkv[0]": 1, "qkv[1]": 1}


@pytest.mark.parametrize(
    ("name", "widths", "message"),
    [
        ("plain_cnn", {"conv3": 4}, "no prunable axis is named 'conv3'; did you mean 'conv2' or 'conv1'\\?"),
        ("plain_cnn", {"conv1": 9}, "widths sets 'conv1' to 9; it has 8 units and keeps 1 or more"),
        ("plain_cnn", {"conv1": 0}, "widths sets 'conv1' to 0; it has 8 units"),
        ("plain_cnn", {"conv1": 0.5}, "widths sets 'conv1' to 0.5; it has 8 units"),
        ("squeezed", {"b": 1}, "widths sets 'b' to 1; it has 4 units and keeps 2 or more"),
        ("attention", {"embed": 4}, "it is tied to qkv.* and moves in steps of 3\nthe nearest widths are 3 and 6"),
        (
            "attention",
            {"embed": 3, "qkv[0]": 2},
            "widths sets 'qkv\\[0\\]' to 2, but it is tied to another axis with a different share: .* 'embed' to 3",
        ),
    ],
)
def test_widths_that_cannot_be(name: str, widths: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        counts(name, Select(widths=widths), None)


@pytest.mark.parametrize(
    ("protect", "kept"),
    [
        (["conv1"], {"conv1"}),
        (["conv1.weight"], {"conv1"}),
        (["conv1.bias"], {"conv1"}),
        ("conv1", {"conv1"}),
        (["conv2"], {"conv1", "conv2"}),
        (["conv*"], {"conv1", "conv2"}),
        (["bn"], {"conv1"}),
        (["fc.weight"], {"conv2"}),
        (["*.running_mean"], {"conv1"}),
        ([], set()),
    ],
)
def test_protected_modules_and_parameters_stay_as_they_are(protect: Sequence[str], kept: set[str]) -> None:
    left = counts("plain_cnn", Select(protect=protect))
    assert {axis for axis, count in left.items() if count == NETS["plain_cnn"].axes[axis]} == kept


def test_protection_reaches_whatever_is_tied() -> None:
    assert counts("attention", Select(protect=["proj.weight"])) == {"embed": 12, "qkv[0]": 4, "qkv[1]": 4}


@pytest.mark.parametrize("pattern", ["bias", "up", "up.bias", "again", "again.weight", "down.weight"])
def test_a_shared_tensor_is_protected_under_every_name(pattern: str) -> None:
    assert counts("shared", Select(protect=[pattern]))["bias"] == 10


@pytest.mark.parametrize(
    ("pattern", "near"), [("conv3", "; did you mean 'conv2' or 'conv1'\\?"), ("*.gamma", "$"), ("", "$")]
)
def test_protecting_nothing_is_a_mistake(pattern: str, near: str) -> None:
    with pytest.raises(InputError, match=f"protect names '{re.escape(pattern)}', which matches no parameter{near}"):
        counts("plain_cnn", Select(protect=[pattern]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"align": 0}, "align=0: widths become multiples of it: a whole number from 1 up, as in align=8"),
        ({"align": 2.5}, "align=2.5"),
        ({"floor": -0.1}, "floor=-0.1: the least that remains: a share up to 1, or a count above 1, as in floor=16"),
        ({"floor": float("nan")}, "floor=nan"),
        ({"floor": float("inf")}, "floor=inf"),
        ({"floor": "0.1"}, "floor='0.1' is a string: the least that remains"),
        ({"ceiling": 0}, "ceiling=0: the most that remains"),
        ({"floor": 0.5, "ceiling": 0.25}, "floor=0.5 is above ceiling=0.25"),
        ({"floor": 16, "ceiling": 8}, "floor=16 is above ceiling=8"),
        ({"widths": ["conv1=8"]}, "widths=\\['conv1=8'\\] is not a mapping\ngive counts by axis name"),
        ({"protect": 5}, "protect=5 is not a string or a list"),
        ({"rules": {"conv1", "conv2"}}, "rules=\\{.*\\} is not a string or a list"),
    ],
)
def test_limits_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Select(**options)


def test_options_are_not_shared() -> None:
    """Defect 9: no default that one caller could change for another."""
    assert Select().widths is not Select().widths
    assert Select().widths == {}
