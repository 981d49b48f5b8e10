"""Comparisons between sizes that a plan keeps true: by striking counts off, or by one count that follows another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import secateur
from nets import Parts
from secateur import InputError, Select
from secateur.graph.graph import Graph
from secateur.planning.selection.conditions import Conditions
from secateur.planning.solver.bundles import Bundle

Check = Callable[[int, int], Any]


def asking(check: Check, wide: int = 24, narrow: int = 6) -> Graph:
    """A model of two widths that takes another path where a check of them turns out differently."""

    def run(self: Any, x: torch.Tensor) -> torch.Tensor:
        x, y = self.a(x), self.c(x)
        out = self.b(x) + self.d(y)
        return out if check(x.shape[-1], y.shape[-1]) else out * 2

    parts = {"a": nn.Linear(3, wide), "b": nn.Linear(wide, 2), "c": nn.Linear(3, narrow), "d": nn.Linear(narrow, 2)}
    torch.manual_seed(0)
    return secateur.trace(Parts(run, **parts), torch.zeros(1, 3))


def counts(graph: Graph, *args: Any, **options: Any) -> tuple[int, int]:
    plan = secateur.plan(graph, *args, **options)
    return plan.axes["a"].kept_count, plan.axes["c"].kept_count


CHECKS: dict[str, Check] = {
    "no remainder": lambda a, c: a % c == 0,
    "as a truth value": lambda a, c: not a % c,
    "turned round": lambda a, c: not (0 != a % c),  # noqa: SIM202, SIM300
    "a whole number of times": lambda a, c: (a // c) * c == a,
    "more than three times": lambda a, c: a // c > 3,
    "no more than the difference": lambda a, c: a - c >= 2 * c + 2,
    "of one alone": lambda a, c: a % 6 == 0,
    "of one alone, negated": lambda a, c: not (a % 5 == 0 or a % 7 == 0),
}


@pytest.mark.parametrize("target", ["channels=0.9", "channels=0.5", "params=0.8", "params=0.4", "macs=0.66"])
@pytest.mark.parametrize("check", CHECKS)
def test_a_plan_meets_its_target_and_keeps_a_comparison_true(check: str, target: str) -> None:
    a, c = counts(asking(CHECKS[check]), target)
    assert bool(CHECKS[check](a, c)) == bool(CHECKS[check](24, 6))
    assert (a, c) != (24, 6)


@pytest.mark.parametrize("scope", ["global", "axis", "isomorphic"])
def test_in_every_scope(scope: str) -> None:
    a, c = counts(asking(CHECKS["no remainder"]), "params=0.6", scope=scope)
    assert a % c == 0
    assert a + c < 0.65 * 30


def test_what_a_target_does_not_ask_for_stays() -> None:
    graph = asking(CHECKS["no remainder"])
    assert counts(graph, select=Select(widths={"c": 4})) == (24, 4)
    with pytest.raises(
        InputError, match=r"no plan keeps this condition true: the comparison at solver/test_meeting\.py"
    ) as e:
        counts(graph, drop={"c": [0]})
    assert (
        "with all other counts as requested, a may keep 5, 10, 15, 20 of 24; or c may keep 1, 2, 3, 4, 6 of 6"
        in str(e.value)
    )
    assert counts(graph, drop={"c": [0]}, select="a: ceiling=0.9") == (20, 5)


def test_a_share_is_rounded_down_to_what_a_comparison_allows() -> None:
    assert counts(asking(CHECKS["of one alone"]), select="a: keep=0.6") == (12, 6)


def test_a_ceiling_below_all_that_a_comparison_allows_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"no count of 'a' from 3 to 4 keeps this condition true: the comparison at solver/"
    ):
        counts(asking(CHECKS["of one alone"]), select="a: ceiling=4")


def test_conditions_know_what_they_read() -> None:
    graph = asking(CHECKS["no remainder"])
    conditions = Conditions(graph)
    (condition,) = conditions.all
    assert condition.groups == {0, 1}
    assert [c.where for c in conditions.broken([20, 6])] == [condition.where]
    assert list(conditions.broken([18, 6])) == []


def test_a_division_by_what_may_vanish_is_not_true() -> None:
    graph = asking(lambda a, c: a // (c - 3) > 2)
    (condition,) = Conditions(graph).all
    assert not condition.holds(graph, {0: 24, 1: 3})
    assert condition.holds(graph, {0: 24, 1: 5})


def test_struck_rungs_leave_the_sum_of_what_is_lost() -> None:
    bundle = Bundle((0,), (8,), (1,), ((8,), (7,), (6,), (4,)), (1.0, 2.0, 3.0))
    left = bundle.only(torch.tensor([True, False, True, True]).numpy())
    assert left.levels == ((8,), (6,), (4,))
    assert left.loss.tolist() == [3.0, 6.0]
