from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.graph.algebra import Opaque, Poly, Ratio, balanced
from secateur.terms import Axis

AXES = [Axis(n) for n in (2, 3, 4)]
A, B, C = map(Poly.variable, AXES)
ONE = Poly.constant(1)

polynomials = st.recursive(
    st.one_of(st.integers(-4, 6).map(Poly.constant), st.sampled_from([A, B, C])),
    lambda inner: st.tuples(st.sampled_from([operator.add, operator.sub, operator.mul]), inner, inner).map(
        lambda t: t[0](t[1], t[2])
    ),
    max_leaves=6,
)
points = st.fixed_dictionaries({axis: st.integers(1, 9) for axis in AXES})
Point = dict[Axis, int]


def at(poly: Poly, point: Point) -> int:
    return poly.at(point.__getitem__)


def fraction(ratio: Ratio, point: Point) -> Fraction | None:
    under = at(ratio.under, point)
    return Fraction(at(ratio.over, point), under) if under else None


@given(polynomials, polynomials, points)
@pytest.mark.parametrize("op", [operator.add, operator.sub, operator.mul])
def test_polynomials_are_numbers_at_every_point(op: Callable[[Any, Any], Any], x: Poly, y: Poly, point: Point) -> None:
    assert at(op(x, y), point) == op(at(x, point), at(y, point))


@given(polynomials, polynomials)
def test_one_polynomial_has_one_form(x: Poly, y: Poly) -> None:
    assert x + y == y + x
    assert x * y == y * x
    assert (x - x, x * Poly()) == (Poly(), Poly())
    assert all(c != 0 for c in (x * y).values())


@pytest.mark.parametrize(
    ("poly", "variables", "value"),
    [(Poly(), set(), 0), (Poly.constant(3), set(), 3), (Poly.constant(0), set(), 0), (A * B + ONE, {0, 1}, None)],
)
def test_variables_and_value(poly: Poly, variables: set[int], value: int | None) -> None:
    assert (poly.variables, poly.value) == ({AXES[i] for i in variables}, value)


ratios = st.tuples(polynomials, polynomials.filter(bool)).map(lambda t: Ratio.of(*t))


@given(polynomials, polynomials.filter(bool), points)
def test_cancelling_keeps_the_value(over: Poly, under: Poly, point: Point) -> None:
    ratio = Ratio.of(over, under)
    if at(under, point):
        assert fraction(ratio, point) == Fraction(at(over, point), at(under, point))


@given(ratios, ratios, points)
@pytest.mark.parametrize("op", [operator.add, operator.sub, operator.mul, operator.truediv])
def test_ratios_are_fractions_at_every_point(op: Callable[[Any, Any], Any], x: Ratio, y: Ratio, point: Point) -> None:
    left, right = fraction(x, point), fraction(y, point)
    if left is None or right is None or (op is operator.truediv and not right):
        return
    assert fraction(op(x, y), point) == op(left, right)


@given(ratios, points)
def test_a_ratio_is_a_whole_number_or_says_that_it_is_none(ratio: Ratio, point: Point) -> None:
    exact = fraction(ratio, point)
    if exact is None:
        return
    try:
        assert ratio.at(point.__getitem__) == exact
    except Opaque:
        assert exact.denominator != 1


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (Ratio.of(A * B, A), Ratio.of(B)),
        (Ratio.of(A * B * C, A * C), Ratio.of(B)),
        (Ratio.of(A * Poly.constant(6), Poly.constant(3)), Ratio.of(A + A)),
        (Ratio.of(A * B + A * C, A), Ratio.of(B + C)),
        (Ratio.of(A + B, A + B), Ratio.of(ONE)),
        (Ratio.of(Poly(), A * B), Ratio.of(Poly())),
        (Ratio.of(A * B) / Ratio.of(A), Ratio.of(B)),
        (Ratio.of(A) - Ratio.of(A), Ratio.of(Poly())),
    ],
)
def test_equal_ratios_have_one_key(x: Ratio, y: Ratio) -> None:
    assert x.key == y.key
    assert x.variables == y.variables


def test_dividing_by_nothing_is_opaque() -> None:
    with pytest.raises(Opaque, match="division by zero"):
        Ratio.of(A) / Ratio.of(B - B)


def test_dividing_by_nothing_at_a_point_is_opaque() -> None:
    with pytest.raises(Opaque, match="division by zero"):
        Ratio.of(A, A - ONE).at(lambda axis: 1)


def test_what_is_no_whole_number_is_opaque() -> None:
    with pytest.raises(Opaque, match="not a whole number"):
        Ratio.of(A, Poly.constant(2)).at(lambda axis: 3)


@given(ratios, ratios, points)
def test_balancing_keeps_what_an_equation_says(x: Ratio, y: Ratio, point: Point) -> None:
    left, right = fraction(x, point), fraction(y, point)
    if left is None or right is None:
        return
    over, under = balanced(x, y)
    assert (at(over, point) == at(under, point)) == (left == right)


@given(ratios, ratios)
def test_balanced_sides_are_positive_and_share_no_monomial(x: Ratio, y: Ratio) -> None:
    over, under = balanced(x, y)
    assert all(c > 0 for side in (over, under) for c in side.values())
    assert set(over).isdisjoint(under)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (Ratio.of(A * B), Ratio.of(C * B), (A, C)),
        (Ratio.of(A + B), Ratio.of(C + B), (A, C)),
        (Ratio.of(A, B), Ratio.of(C, B), (A, C)),
        (Ratio.of(A + A), Ratio.of(B * Poly.constant(4)), (A, B + B)),
        (Ratio.of(A), Ratio.of(A), (Poly(), Poly())),
    ],
)
def test_balanced(x: Ratio, y: Ratio, expected: tuple[Poly, Poly]) -> None:
    assert balanced(x, y) == expected
