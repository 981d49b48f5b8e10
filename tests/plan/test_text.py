from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import nn

import secateur
from nets import NETS
from secateur.plan.parts import AxisPlan, Totals
from secateur.plan.plan import Plan
from secateur.plan.text import ROWS, table


def plan_of(name: str, target: str = "channels=0.5") -> Plan:
    graph = secateur.trace(NETS[name].make(), NETS[name].example())
    return secateur.plan(graph, target)


@pytest.mark.parametrize("name", [name for name, net in NETS.items() if net.axes])
def test_every_plan_prints(name: str) -> None:
    plan = plan_of(name)
    text = str(plan)
    assert all(f"  {axis} " in text for axis, _ in plan.dropped())
    assert f"{plan.after.params:,}" in text
    assert f"{plan.after.macs:,}" in text


def test_a_plan_says_what_remains_and_what_goes() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    graph = secateur.trace(net, torch.zeros(1, 4))
    assert table(secateur.plan(graph, "channels=0.5", drop={"0": [1, 2, 5, 6]}, seed=3)).splitlines() == [
        "plan for channels=0.5 (importance l2, scope global, seed 3)",
        "",
        "                before  after  remains",
        "parameters          58     30   51.7 %",
        "MACs                48     24   50.0 %",
        "memory (bytes)     288    160   55.6 %",
        "",
        "1 of 1 axis is cut  units  keeps  remains  tensors  drops",
        "  0                     8      4   50.0 %        3  1, 2, 5, 6",
        "",
        "2 attributes change: 0.out_features 8 -> 4, 1.in_features 8 -> 4",
    ]


def test_choices_per_outer_unit_and_scales() -> None:
    text = table(plan_of("multihead"))
    line = next(line for line in text.splitlines() if line.startswith("  attn.in_proj_weight[0] "))
    assert line.split()[1:] == ["3x4", "3x2", "50.0", "%", "2", "2", "of", "each"]
    assert "2 tensors scaled: attn.in_proj_weight x 0.7071, attn.in_proj_bias x 0.7071" in text


def test_a_place_of_a_tuple_is_named() -> None:
    assert "rms.normalized_shape[0] 12 -> 6" in table(plan_of("layer_norm")).replace("\n", " ")


def test_nothing_is_cut() -> None:
    text = table(plan_of("plain_cnn", "channels=1.0"))
    assert text.splitlines()[-1] == "nothing is cut"
    assert "100 %" in text


def made(axes: Mapping[str, AxisPlan]) -> Plan:
    return Plan(axes, {f"{name}.weight": (name, 3) for name in axes}, (), (), Totals(9, 9), Totals(5, 5))


def test_many_dropped_units_are_counted() -> None:
    text = table(made({"a": AxisPlan(20, tuple(range(10, 20)))}))
    assert "0, 1, 2, 3, 4, ... and 5 more" in text


def test_equal_axes_fold_where_there_are_many() -> None:
    few = table(made({f"b.{i}.up": AxisPlan(4, (0, 1)) for i in range(24)}))
    many = table(made({f"b.{i}.up": AxisPlan(4, (0, 1)) for i in range(25)}))
    assert "  b.3.up " in few
    assert many.splitlines()[-1].split() == ["b.*.up", "(x25)", "4", "2", "50.0", "%", "1", "2", "of", "each"]


def test_nearly_equal_axes_fold_where_there_are_very_many() -> None:
    axes = {f"b.{i}.up": AxisPlan(99, tuple(range(i + 1))) for i in range(ROWS + 1)}
    last = table(made(axes)).splitlines()[-1].split()
    assert last == [
        "b.*.up",
        f"(x{ROWS + 1})",
        "99",
        f"1-{ROWS + 1}",
        "21.2",
        "%",
        "1",
        f"{98 - ROWS}-98",
        "of",
        "each",
    ]


def test_long_tables_stop() -> None:
    text = table(made({f"b.{i}.up": AxisPlan(i + 2, (0,)) for i in range(ROWS + 7)}))
    assert "  ... and 7 more: plan.axes" in text


def test_by_hand_and_without_notes() -> None:
    assert table(made({"a": AxisPlan(2, (0,))})).startswith("plan by hand\n\n")
