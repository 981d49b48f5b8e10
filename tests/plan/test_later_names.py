from __future__ import annotations

from dataclasses import replace

import secateur
from nets import NETS
from secateur.plan.later_names import added_names, cut_names, smaller_names
from secateur.plan.parts import Added, Renumbering
from secateur.plan.plan import Plan


def plan(*cut: str, added: tuple[str, ...] = (), removed: tuple[str, ...] = ()) -> Plan:
    net = NETS["plain_cnn"]
    empty = secateur.plan(secateur.trace(net.make(), net.example()), "channels=1.0")
    return replace(
        empty,
        sites=dict.fromkeys(cut, ()),
        added=tuple(Added(name, name, 0) for name in added),
        removed=dict.fromkeys(removed),
        renumbered=Renumbering(("layers",), (), ()) if removed else None,
    )


def test_names_are_those_after_all_later_plans() -> None:
    first, second = plan("layers.2.weight", "head.weight"), plan("layers.0.weight", removed=("layers.1",))
    assert cut_names([first, second]) == {"layers.1.weight", "head.weight", "layers.0.weight"}
    assert cut_names([second, first]) == {"layers.0.weight", "layers.2.weight", "head.weight"}


def test_what_a_later_plan_removes_has_no_name() -> None:
    first, second = plan("layers.1.weight", "head.weight"), plan(removed=("layers.1",))
    assert cut_names([first, second]) == {"head.weight"}


def test_added_parameters_are_named_alike() -> None:
    first, second = plan(added=("layers.2.bias", "layers.1.bias")), plan(removed=("layers.1",))
    assert added_names([first]) == {"layers.2.bias", "layers.1.bias"}
    assert added_names([first, second]) == {"layers.1.bias"}
    assert added_names([]) == set()


def test_only_tensors_that_lose_something_are_smaller() -> None:
    net = NETS["plain_cnn"]
    graph = secateur.trace(net.make(), net.example())
    axis = graph.axes[0].name
    one = secateur.plan(graph, drop={axis: [0]})
    assert f"{axis}.weight" in smaller_names([one]) < cut_names([one]) == set(one.sites)
    assert smaller_names([secateur.plan(graph, "channels=1.0")]) == set()
