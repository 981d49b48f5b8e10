from __future__ import annotations

import re
from dataclasses import replace

import pytest

import secateur
from nets import NETS
from secateur.errors import FileError
from secateur.plan.check import DEPTH, check_plan
from secateur.plan.parts import AttributeChange, AxisPlan, Cache, Scale, Totals
from secateur.plan.plan import Plan


def plan_of(name: str) -> Plan:
    graph = secateur.trace(NETS[name].make(), NETS[name].example())
    return secateur.plan(graph, "channels=0.6", importance="random")


@pytest.mark.parametrize("name", [name for name, net in NETS.items() if net.axes])
def test_our_own_plans_pass(name: str) -> None:
    plan = plan_of(name)
    check_plan(plan)
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("depth", [DEPTH, DEPTH + 1])
def test_terms_are_nested_to_a_depth(depth: int) -> None:
    code: object = 3
    for _ in range(depth):
        code = {"cat": (code,)}
    plan = replace(plan_of("plain_cnn"), sites={"x": (code,)})  # type: ignore[dict-item]
    if depth <= DEPTH:
        return check_plan(plan)
    with pytest.raises(FileError, match=r"describes site 'x' by .*'cat'"):
        check_plan(plan)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("inf"), float("nan"), "2"])
def test_factors(factor: float) -> None:
    plan = replace(plan_of("plain_cnn"), scales=(Scale("conv1.weight", 0, ((0, 1),), factor),))
    with pytest.raises(FileError, match=f"the plan scales conv1.weight by {factor!r}; a factor is positive and finite"):
        check_plan(plan)


NAMES = ["__class__", "_parameters", "_a.b", "a._modules", "a..b", ".b", "a.b.c.d.e", "a.__class__", "", "1st"]


@pytest.mark.parametrize("name", NAMES)
def test_attribute_names(name: str) -> None:
    plan = replace(plan_of("plain_cnn"), attributes=(AttributeChange("conv1", name, None, 1, 2),))
    with pytest.raises(FileError, match=f"sets an attribute '{name}' of 'conv1'; plans set integers of its class"):
        check_plan(plan)


def test_caches_are_named_by_text() -> None:
    plan = Plan.from_json(replace(plan_of("plain_cnn"), caches=(Cache("", "table"),)).to_json())
    check_plan(plan)
    with pytest.raises(FileError, match=r"the plan empties a cache \['', 3\]; a module and an attribute are named by"):
        check_plan(replace(plan, caches=(Cache("", 3),)))  # type: ignore[arg-type]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "totals", [Totals(-1, 1), Totals(1, 2.5), Totals(1, True), Totals(1, 1, "9"), Totals(1, 1, -4)]
)  # type: ignore[arg-type]
def test_totals(when: str, totals: Totals) -> None:
    plan = replace(plan_of("plain_cnn"), **{when: totals})  # type: ignore[arg-type]
    told = f"{totals.params!r} parameters, {totals.macs!r} MACs and {totals.memory!r} bytes {when} the cut; totals are"
    with pytest.raises(FileError, match=re.escape(f"the plan counts {told} whole numbers from 0 up")):
        check_plan(plan)


def test_memory_may_be_unknown() -> None:
    check_plan(replace(plan_of("plain_cnn"), after=Totals(1, 1, None)))


def test_nested_units_need_outer_units() -> None:
    plan = replace(plan_of("plain_cnn"), axes={"conv1": AxisPlan(8, ((0, 1),))})
    with pytest.raises(FileError, match=r"keeps unit \(0, 1\) of axis 'conv1', which has 8: 0 to 7"):
        check_plan(plan)
