from __future__ import annotations

import copy
import math
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.graph.sizes import COMPARE, EVALUATE, Arithmetic, Attribute, Dim, evaluate, leaves
from secateur.terms import Axis
from secateur.trace.tracked_ints import Ledger, Num, escape, expression, open_ledger, plain, source_line

WIDTH, HEADS = Attribute("m", "width"), Attribute("m", "heads", 1)
VALUES: dict[Any, int] = {WIDTH: 12, HEADS: 3}


def width() -> Num:
    return Num(12, WIDTH)


def told(use: Callable[[Num], object]) -> tuple[Ledger, object]:
    """What becomes of the number 12 in the hands of `use`."""
    with open_ledger(Ledger()) as ledger:
        result = use(width())
    return ledger, result


NUMBERS = st.one_of(st.integers(-9, 9), st.sampled_from([Num(12, WIDTH), Num(3, HEADS)]))
FORMULAS = st.recursive(
    NUMBERS.map(lambda n: (lambda: n, lambda: plain(n))),
    lambda inner: st.tuples(st.sampled_from(sorted(EVALUATE)), inner, inner).map(
        lambda t: (lambda: EVALUATE[t[0]](t[1][0](), t[2][0]()), lambda: EVALUATE[t[0]](t[1][1](), t[2][1]()))
    ),
    max_leaves=8,
)


@given(FORMULAS)
def test_arithmetic_remembers_what_it_computed(formula: tuple[Callable[[], int], Callable[[], int]]) -> None:
    remembered, bare = formula
    try:
        expected = bare()
    except ZeroDivisionError:
        expected = None
    if expected is None:
        with pytest.raises(ZeroDivisionError):
            remembered()
    else:
        assert plain(remembered()) == expected
        assert evaluate(expression(remembered()), VALUES.__getitem__) == expected


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (lambda n: n + 1, Arithmetic("+", WIDTH, 1)),
        (lambda n: 1 + n, Arithmetic("+", 1, WIDTH)),
        (lambda n: 30 - n, Arithmetic("-", 30, WIDTH)),
        (lambda n: n // Num(3, HEADS), Arithmetic("//", WIDTH, HEADS)),
        (lambda n: n % 5, Arithmetic("%", WIDTH, 5)),
        (lambda n: -n, Arithmetic("-", 0, WIDTH)),
        (lambda n: n**2, Arithmetic("*", Arithmetic("*", 1, WIDTH), WIDTH)),
        (lambda n: divmod(n, 5)[0], Arithmetic("//", WIDTH, 5)),
        (lambda n: divmod(25, n)[1], Arithmetic("%", 25, WIDTH)),
        (lambda n: n * True, Arithmetic("*", WIDTH, 1)),
        (lambda n: sum([n, 2]), Arithmetic("+", Arithmetic("+", 0, WIDTH), 2)),
        (lambda n: math.prod([n, 2]), Arithmetic("*", Arithmetic("*", 1, WIDTH), 2)),
        (lambda n: max(n, 5), WIDTH),
        (lambda n: +n, WIDTH),
        (abs, WIDTH),
        (round, WIDTH),
        (math.ceil, WIDTH),
        (math.floor, WIDTH),
        (math.trunc, WIDTH),
        (lambda n: -(-n // 5), Arithmetic("-", 0, Arithmetic("//", Arithmetic("-", 0, WIDTH), 5))),
    ],
)
def test_the_expression_of_a_result(use: Callable[[Num], Any], expected: object) -> None:
    ledger, result = told(use)
    assert isinstance(result, Num)
    assert expression(result) == expected
    assert (plain(result), ledger.escapes) == (evaluate(result.expr, VALUES.__getitem__), [])


def test_leaves_and_names() -> None:
    axis = Dim(Axis(4))
    assert list(leaves(Arithmetic("+", Arithmetic("*", WIDTH, axis), Arithmetic("-", 3, HEADS)))) == [
        WIDTH,
        axis,
        HEADS,
    ]
    assert [str(WIDTH), str(HEADS), str(Attribute("", "width"))] == ["m.width", "m.heads[1]", "width"]


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (int, 12),
        (float, 12.0),
        (math.sqrt, math.sqrt(12)),
        (math.exp, math.exp(12)),
        (np.sqrt, math.sqrt(12)),
        (lambda n: n * np.int64(2), 24),
        (lambda n: np.array([n]).sum(), 12),
        (lambda n: n / 2, 6.0),
        (lambda n: 1 / n, 1 / 12),
        (lambda n: n * 0.5, 6.0),
        (lambda n: n**-0.5, 12**-0.5),
        (lambda n: n**n, 12**12),
        (lambda n: 2**n, 4096),
        (lambda n: pow(n, 2, 5), 4),
        (lambda n: n & 4, 4),
        (lambda n: n << 1, 24),
        (lambda n: f"{n:.1f}", "12.0"),
    ],
)
def test_a_value_that_leaves_our_sight_escapes(use: Callable[[Num], Any], expected: object) -> None:
    ledger, result = told(use)
    assert result == expected
    assert not isinstance(result, Num)
    assert {escaped.expr for escaped in ledger.escapes} == {WIDTH}
    assert all("trace/test_tracked_ints.py:" in escaped.where for escaped in ledger.escapes)


def test_only_numbers_with_a_history_escape() -> None:
    with open_ledger(Ledger()) as ledger:
        escape(12, "used")
        escape("12", "used")
    assert ledger == Ledger()


@pytest.mark.parametrize("op", COMPARE)
@pytest.mark.parametrize("other", [3, 12, 30])
def test_a_comparison_is_a_guard_with_its_outcome(op: str, other: int) -> None:
    ledger, outcome = told(lambda n: COMPARE[op](n, other))
    (guard,) = ledger.guards
    assert (guard.op, guard.left, guard.right, guard.outcome) == (op, WIDTH, other, COMPARE[op](12, other))
    assert outcome is guard.outcome
    assert "test_tracked_ints.py:" in guard.where


@pytest.mark.parametrize(
    ("use", "op"), [(lambda n: n > 3, ">"), (lambda n: n == 3, "=="), (lambda n: n in (3, 4), "==")]
)
def test_comparisons_from_the_right(use: Callable[[Num], object], op: str) -> None:
    ledger, _ = told(use)
    assert {(guard.op, guard.left) for guard in ledger.guards} == {(op, WIDTH)}


@pytest.mark.parametrize(
    "use",
    [lambda n: n > 0, lambda n: n == 0, lambda n: n != -1, lambda n: n == None, lambda n: n == "12", bool],  # noqa: E711
)
def test_comparisons_that_no_plan_can_change(use: Callable[[Num], object]) -> None:
    assert told(use)[0].guards == []


def test_a_comparison_of_two_numbers() -> None:
    ledger, _ = told(lambda n: n == Num(3, HEADS))
    assert [(guard.left, guard.right, guard.outcome) for guard in ledger.guards] == [(WIDTH, HEADS, False)]


@pytest.mark.parametrize("copied", [lambda n: pickle.loads(pickle.dumps(n)), copy.copy])
def test_copies_that_may_outlive_the_trace_are_plain(copied: Callable[[Num], int]) -> None:
    assert (type(copied(width())), copied(width())) == (int, 12)


def test_it_does_what_an_int_does() -> None:
    n = width()
    assert (hash(n), range(20)[n], [*range(n)][-1], operator.index(n)) == (12, 12, 11, 12)
    assert (repr(n), {12: "found"}[n], torch.zeros(n).shape) == ("12", "found", (12,))


def test_without_a_ledger_nothing_is_recorded() -> None:
    assert (float(width()), width() > 3, width() / 2) == (12.0, True, 6.0)


def test_the_innermost_ledger_records() -> None:
    with open_ledger(Ledger()) as outer, open_ledger(Ledger()) as inner:
        float(width())
    assert (len(outer.escapes), len(inner.escapes)) == (0, 1)


def test_a_source_line_is_outside_of_torch() -> None:
    class Asks(torch.nn.Module):
        def forward(self) -> str:
            return torch.utils._pytree.tree_map(lambda _: source_line(), [0])[0]

    assert Asks()().split(":")[0].endswith("trace/test_tracked_ints.py")
