from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from secateur.graph.algebra import Opaque
from secateur.graph.sizes import COMPARE, Arithmetic, Attribute, Dim, Expr, SizeEquation, SizeGuard, evaluate, holds
from secateur.terms import Axis, Term, cat, product, size
from secateur.trace.solve import Solution, Solver, Tie
from secateur.trace.tracked_ints import Escape, Ledger

WIDTH, HEADS, SPLIT = Attribute("m", "width"), Attribute("m", "heads"), Attribute("m", "split", 0)


def many(*sizes: int) -> list[Axis]:
    return [Axis(n) for n in sizes]


def solved(ledger: Ledger, candidates: Sequence[Axis], attributes: dict[Attribute, int] | None = None) -> Solution:
    return Solver(candidates, attributes or {}).run(ledger)


def says(*equations: tuple[Expr, Expr]) -> Ledger:
    return Ledger([SizeEquation(left, right, f"model.py:{i}") for i, (left, right) in enumerate(equations)])


def ties_of(solution: Solution) -> set[frozenset[Axis]]:
    """The axes that are tied to others."""
    return {frozenset(tie.members) for tie in solution.ties.values() if len(tie.members) > 1}


def frozen_in(solution: Solution) -> dict[Axis, str]:
    return {axis: tie.frozen for axis, tie in solution.ties.items() if tie.frozen}


C, H, D = Axis(12), Axis(3), Axis(4)


@pytest.mark.parametrize(
    ("equations", "attributes", "counts", "expected"),
    [
        ([(WIDTH, Dim(C))], {WIDTH: 12}, {C: 5}, {WIDTH: 5}),
        ([(Dim(C), WIDTH)], {WIDTH: 12}, {C: 5}, {WIDTH: 5}),
        ([(WIDTH, Dim(cat([C, D])))], {WIDTH: 16}, {C: 5, D: 1}, {WIDTH: 6}),
        ([(WIDTH, Dim(product([H, D])))], {WIDTH: 12}, {H: 2, D: 3}, {WIDTH: 6}),
        ([(Arithmetic("*", 2, WIDTH), Dim(C))], {WIDTH: 6}, {C: 8}, {WIDTH: 4}),
        ([(Arithmetic("+", WIDTH, 2), Dim(C))], {WIDTH: 10}, {C: 8}, {WIDTH: 6}),
        ([(Arithmetic("-", WIDTH, 2), Dim(C))], {WIDTH: 14}, {C: 8}, {WIDTH: 10}),
        ([(Arithmetic("-", 20, WIDTH), Dim(C))], {WIDTH: 8}, {C: 10}, {WIDTH: 10}),
        ([(Arithmetic("//", WIDTH, 2), Dim(C))], {WIDTH: 24}, {C: 5}, {WIDTH: 10}),
        ([(Arithmetic("//", 36, HEADS), Dim(C))], {HEADS: 3}, {C: 6}, {HEADS: 6}),
        ([(WIDTH, Dim(C)), (Arithmetic("//", WIDTH, HEADS), Dim(D))], {WIDTH: 12, HEADS: 3}, {C: 6, D: 2}, {HEADS: 3}),
        ([(Arithmetic("//", WIDTH, HEADS), Dim(D)), (WIDTH, Dim(C))], {WIDTH: 12, HEADS: 3}, {C: 8, D: 2}, {HEADS: 4}),
    ],
)
def test_attributes_follow_their_axes(
    equations: list[tuple[Expr, Expr]], attributes: dict[Attribute, int], counts: dict[Axis, int], expected: Any
) -> None:
    values = solved(says(*equations), [C, H, D], attributes).attributes
    found = {attribute: values[attribute].at(lambda axis: counts.get(axis, axis.n)) for attribute in expected}
    assert found == expected


@pytest.mark.parametrize(
    "equation", [(Arithmetic("*", WIDTH, WIDTH), 144), (Arithmetic("//", WIDTH, 5), 2), (WIDTH, SPLIT)]
)
def test_what_cannot_be_undone_defines_nothing(equation: tuple[Expr, Expr]) -> None:
    assert solved(says(equation), [C], {WIDTH: 12, SPLIT: 12}).attributes == {}


def test_of_two_unknown_attributes_the_larger_follows_and_the_other_stays() -> None:
    equations = says((Arithmetic("*", SPLIT, WIDTH), Dim(C)), (Arithmetic("+", SPLIT, WIDTH), Dim(D)))
    solution = solved(equations, [C, D], {SPLIT: 1, WIDTH: 12})
    assert {a: solution.attributes[a].at(lambda axis: 6) for a in (SPLIT, WIDTH)} == {SPLIT: 1, WIDTH: 6}


A, B, E, G = many(4, 6, 4, 6)


@pytest.mark.parametrize(
    ("equations", "ties"),
    [
        ([(Dim(A), Dim(E))], [{A, E}]),
        ([(Dim(A), Dim(E)), (Dim(D), Dim(E))], [{A, E, D}]),
        ([(Arithmetic("*", 3, Dim(A)), Arithmetic("*", 2, Dim(B)))], [{A, B}]),
        ([(Arithmetic("//", Dim(A), 2), Arithmetic("//", Dim(B), 3))], [{A, B}]),
        ([(Arithmetic("+", Dim(A), Dim(B)), Dim(cat([G, E])))], [{A, E}, {B, G}]),
        ([(Dim(product([A, B])), Dim(product([B, E])))], [{A, E}]),
        ([(Dim(cat([A, B, B])), Dim(cat([E, D, E, A])))], [{B, D, E}]),
        ([(Dim(A), Dim(A))], []),
    ],
)
def test_counts_in_proportion_are_tied(equations: list[tuple[Expr, Expr]], ties: list[set[Axis]]) -> None:
    solution = solved(says(*equations), [A, B, D, E, G])
    assert ties_of(solution) == set(map(frozenset, ties))
    assert frozen_in(solution) == {}


@pytest.mark.parametrize(("sizes", "steps"), [((4, 4), 4), ((4, 6), 2), ((8, 12, 20), 4), ((7,), 7)])
def test_steps_of_a_tie(sizes: tuple[int, ...], steps: int) -> None:
    assert Tie(many(*sizes)).steps == steps


def test_counts_without_a_common_step_freeze() -> None:
    a, b = many(4, 9)
    solution = solved(says((Arithmetic("*", 9, Dim(a)), Arithmetic("*", 4, Dim(b)))), [a, b])
    assert set(frozen_in(solution).values()) == {"tied to counts without a common step at model.py:0"}


def test_a_square_is_not_in_proportion_to_a_product() -> None:
    a, b, c = many(3, 3, 3)
    solution = solved(says((Dim(product([a, b])), Dim(product([c, c])))), [a, b, c])
    assert set(frozen_in(solution)) == {a, b, c}


def test_a_width_of_heads_times_their_size_ties_the_finer_one() -> None:
    width, heads, inner = many(12, 3, 4)
    solution = solved(says((Dim(width), Dim(product([heads, inner])))), [width, heads, inner])
    assert ties_of(solution) == {frozenset({width, inner})}
    assert frozen_in(solution) == {heads: "no plan can satisfy the sizes at model.py:0"}


@pytest.mark.parametrize("op", ["==", "!="])
def test_a_comparison_that_must_stay_equal_is_an_equation(op: str) -> None:
    a, b = many(4, 4)
    solution = solved(Ledger(guards=[SizeGuard(op, Dim(a), Dim(b), op == "==", "model.py:3")]), [a, b])
    assert ties_of(solution) == {frozenset({a, b})}
    assert solution.guards == []


@pytest.mark.parametrize(
    "expr",
    [
        Arithmetic("%", Dim(C), 5),
        Arithmetic("//", Dim(C), 5),
        Arithmetic("//", Arithmetic("*", Dim(C), Dim(C)), Arithmetic("+", Dim(C), 1)),
    ],
)
def test_a_size_that_no_polynomial_describes_freezes_with_its_line(expr: Expr) -> None:
    value = evaluate(expr, lambda leaf: leaf.term.n)  # type: ignore[union-attr]
    solution = solved(says((expr, value)), [C])
    assert frozen_in(solution) == {C: "no plan can satisfy the sizes at model.py:0"}


@pytest.mark.parametrize("right", [12, WIDTH])
def test_a_size_freezes_where_a_number_is_written_and_not_where_an_attribute_stands(right: Expr) -> None:
    solution = solved(says((Dim(C), right)), [C], {WIDTH: 12})
    assert bool(frozen_in(solution)) == (right == 12)


def test_what_is_no_candidate_is_a_constant() -> None:
    a, b = many(4, 4)
    assert frozen_in(solved(says((Dim(a), Dim(b))), [a])) == {a: "no plan can satisfy the sizes at model.py:0"}


def test_a_value_used_in_arithmetic_makes_its_axes_unsafe() -> None:
    solution = solved(Ledger(escapes=[Escape(Dim(C), "met a float at model.py:9")]), [C, D])
    assert solution.unsafe == {C: "its size is used in a computation: met a float at model.py:9"}


def test_only_the_head_size_is_unsafe_where_a_width_over_heads_is_equal_to_it() -> None:
    width, heads, inner = many(12, 3, 4)
    expr = Arithmetic("//", WIDTH, HEADS)
    ledger = says((WIDTH, Dim(width)), (HEADS, Dim(heads)), (expr, Dim(inner)))
    ledger.escapes.append(Escape(expr, "raised to a power at model.py:7"))
    solution = solved(ledger, [width, heads, inner], {WIDTH: 12, HEADS: 3})
    assert set(solution.unsafe) == {inner}


def test_a_quotient_that_is_computed_with_is_checked_for_every_plan() -> None:
    """(C // 3) * 3 == C holds for fractions, but not for the result of `//`."""
    expr = Arithmetic("*", Arithmetic("//", Dim(C), 3), 3)
    assert solved(says((expr, Dim(C))), [C]).guards == [SizeGuard("==", expr, Dim(C), True, "model.py:0")]


@pytest.mark.parametrize(
    ("guard", "still_open"),
    [
        (SizeGuard("==", Arithmetic("%", Dim(C), 5), 1, False, ""), True),
        (SizeGuard(">", Dim(C), 3, True, ""), True),
        (SizeGuard("<", Arithmetic("-", Dim(C), Dim(C)), 3, True, ""), False),
        (SizeGuard(">", Dim(Axis(7)), 3, True, ""), False),
        (SizeGuard("!=", Dim(C), 3, True, ""), True),
        (SizeGuard("==", Dim(C), 3, False, ""), True),
    ],
)
def test_a_comparison_stays_open_where_a_plan_could_change_it(guard: SizeGuard, still_open: bool) -> None:
    assert bool(solved(Ledger(guards=[guard]), [C]).guards) == still_open


@pytest.mark.parametrize("op", COMPARE)
@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_guard_holds_while_its_outcome_stays(op: str, count: int) -> None:
    guard = SizeGuard(op, Dim(H), 3, COMPARE[op](3, 3), "")
    value = holds(guard, lambda expr: count if isinstance(expr, Dim) else expr)  # type: ignore[arg-type, return-value]
    assert value == (COMPARE[op](count, 3) == COMPARE[op](3, 3))


def _value(expr: Expr, attributes: dict[Attribute, int], counts: dict[Axis, int]) -> int:
    return evaluate(expr, lambda leaf: attributes[leaf] if isinstance(leaf, Attribute) else size(leaf.term, counts))


def random_expr(chance: random.Random, leaves: list[Expr], depth: int) -> Expr:
    if depth == 0 or chance.random() < 0.3:
        return chance.choice(leaves)
    left, right = (random_expr(chance, leaves, depth - 1) for _ in range(2))
    return Arithmetic(chance.choice("*+-/*/").replace("/", "//"), left, right)


def random_case(chance: random.Random) -> tuple[list[Axis], dict[Attribute, int], Ledger]:
    """Equations that hold for the unpruned model."""
    axes = [Axis(chance.choice([2, 3, 4, 6, 8, 12])) for _ in range(chance.randint(2, 5))]
    attributes = {Attribute("m", name): chance.choice([2, 3, 4, 6, 12]) for name in "abc"}
    terms: list[Term] = [*axes, *axes, cat(chance.choices(axes, k=2)), product(chance.choices(axes, k=2))]
    leaves: list[Expr] = [*map(Dim, terms), *attributes, 1, 2, 3]
    by_value: dict[int, list[Expr]] = {}
    for _ in range(chance.randint(5, 30)):
        with suppress(ZeroDivisionError):
            expr = random_expr(chance, leaves, 2)
            by_value.setdefault(_value(expr, attributes, {}), []).append(expr)
    pairs = [pair for group in by_value.values() for pair in itertools.pairwise(group)]
    return axes, attributes, says(*chance.sample(pairs, min(len(pairs), chance.randint(1, 4))))


def random_counts(chance: random.Random, solution: Solution, axes: list[Axis]) -> dict[Axis, int]:
    """Counts that respect ties and whatever froze."""
    counts = {axis: axis.n for axis in axes}
    for tie in {id(tie): tie for tie in solution.ties.values()}.values():
        if tie.frozen is None and not any(axis in solution.unsafe for axis in tie.members):
            share = chance.randint(1, tie.steps)
            counts |= {axis: axis.n // tie.steps * share for axis in tie.members}
    return counts


def outcome(chance: random.Random) -> list[tuple[SizeEquation, int, int]] | None:
    """Equations that a random plan breaks; None where there is none to break or the planner would refuse the plan."""
    axes, attributes, ledger = random_case(chance)
    solution = solved(ledger, axes, attributes)
    counts = random_counts(chance, solution, axes)
    with suppress(Opaque, ZeroDivisionError):
        new = {attribute: ratio.at(counts.__getitem__) for attribute, ratio in solution.attributes.items()}
        values = {**attributes, **new}
        if counts != {axis: axis.n for axis in axes} and all(
            holds(guard, lambda e: _value(e, values, counts)) for guard in solution.guards
        ):
            sides = [(e, _value(e.left, values, counts), _value(e.right, values, counts)) for e in ledger.equations]
            return [side for side in sides if side[1] != side[2]]
    return None


@pytest.mark.parametrize("seed", range(8))
def test_every_plan_that_respects_a_solution_satisfies_every_equation(seed: int) -> None:
    chance = random.Random(seed)
    outcomes = [found for _ in range(300) if (found := outcome(chance)) is not None]
    assert len(outcomes) > 100
    assert [broken for found in outcomes for broken in found] == []
