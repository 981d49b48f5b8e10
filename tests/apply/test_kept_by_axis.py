from __future__ import annotations

from dataclasses import replace

import pytest

import secateur
from nets import graph_of
from secateur.apply.kept_by_axis import kept_by_axis
from secateur.errors import InputError
from secateur.plan.parts import AxisPlan
from secateur.terms import positions


def test_units_that_stay_give_the_positions_that_stay() -> None:
    graph = graph_of("plain_cnn")
    plan = secateur.plan(graph, drop={"conv1": [0, 5]})
    kept = kept_by_axis(graph, plan)
    assert kept[graph.axis("conv1").term] == (1, 2, 3, 4, 6, 7)
    assert positions(graph.sites["bn.weight"].dims[0], kept) == [1, 2, 3, 4, 6, 7]


def test_a_plan_that_cuts_another_axis_is_refused() -> None:
    graph = graph_of("plain_cnn")
    plan = secateur.plan(graph, drop={"conv1": [0]})
    other = replace(plan, axes={**plan.axes, "stem": AxisPlan(4, (0, 1))})
    with pytest.raises(InputError, match="the plan cuts 'stem', which is not a prunable axis"):
        kept_by_axis(graph, other)
    whole = replace(plan, axes={**plan.axes, "stem": AxisPlan(2, (0, 1))})
    assert kept_by_axis(graph, whole) == kept_by_axis(graph, plan)
