from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from secateur.terms import (
    ONE,
    Axis,
    Case,
    Cat,
    Kept,
    PerUnit,
    Product,
    Term,
    axes,
    cat,
    collapse,
    cut,
    factor,
    find,
    freeze,
    keep_at_least,
    kept_size,
    loose,
    mark_inexact,
    mingle,
    pick,
    positions,
    product,
    reshape,
    same,
    settle,
    size,
    unify,
)
from secateur.terms.term import leaves as leaves_of

#
# A program runs at the same time on arrays, whose elements are labels that no two leaves share, and on terms. Then
# units are dropped and it runs again on the pruned leaves, its sizes read from the terms. Whatever it makes must be
# what the positions of the terms select of the first run.

Labels = npt.NDArray[np.uint64]
Size = Callable[[Term], int]
Step = Callable[[list[Labels], Size], list[Labels]]


def mixed(x: Labels, y: Labels) -> Labels:
    """A label for the pair of two labels, element by element."""
    return (x * np.uint64(0x9E3779B97F4A7C15) + y) * np.uint64(0xBF58476D1CE4E5B9) ^ (y >> np.uint64(31))


@dataclass
class Program:
    """What ran so far: every value by its terms, and the steps that made the values that are no leaves."""

    dims: list[list[Term]] = field(default_factory=list)
    arrays: list[Labels] = field(default_factory=list)
    leaves: dict[int, Labels] = field(default_factory=dict)
    steps: list[tuple[Step, range]] = field(default_factory=list)

    def leaf(self, shape: Sequence[int]) -> int:
        start = 1_000_003 * (len(self.leaves) + 1)
        labels = np.arange(start, start + math.prod(shape), dtype=np.uint64).reshape(shape)
        self.leaves[len(self.dims)] = labels
        self.arrays.append(labels)
        self.dims.append([Axis(n) if n != 1 else ONE for n in shape])
        return len(self.dims) - 1

    def step(self, run: Step, *results: Sequence[Term]) -> None:
        made = run(self.arrays, lambda term: term.n)
        for dims in results:
            settle(dims)
        self.steps.append((run, range(len(self.dims), len(self.dims) + len(made))))
        self.dims += [[find(dim) for dim in dims] for dims in results]
        self.arrays += made

    def again(self, leaves: dict[int, Labels], counts: Size) -> list[Labels]:
        """All values of a run on other leaves."""
        values: list[Labels] = [leaves.get(i, np.zeros(0, np.uint64)) for i in range(len(self.dims))]
        for run, places in self.steps:
            for i, made in zip(places, run(values, counts), strict=True):
                values[i] = made
        return values

    def reshape(self, i: int, shape: Sequence[int]) -> None:
        dims = reshape(self.dims[i], shape)
        self.step(lambda v, n: [v[i].reshape([n(d) for d in dims])], dims)

    def permute(self, i: int, order: Sequence[int]) -> None:
        self.step(lambda v, n: [v[i].transpose(order)], [self.dims[i][d] for d in order])

    def split(self, i: int, at: int, offsets: Sequence[int]) -> None:
        dims = self.dims[i]
        widths = np.diff([0, *offsets])
        pieces = cut(dims[at], offsets) or [Axis(int(w), "a split that cuts through units") for w in widths]
        results = [[*dims[:at], piece, *dims[at + 1 :]] for piece in pieces]

        def run(values: list[Labels], n: Size) -> list[Labels]:
            return np.split(values[i], np.cumsum([n(piece) for piece in pieces])[:-1], axis=at)

        self.step(run, *results)

    def cat(self, i: int, j: int, at: int) -> None:
        for d, (x, y) in enumerate(zip(self.dims[i], self.dims[j], strict=True)):
            if d != at:
                unify(x, y)
        dims = list(self.dims[i])
        dims[at] = cat([self.dims[i][at], self.dims[j][at]])
        self.step(lambda v, n: [np.concatenate([v[i], v[j]], axis=at)], dims)

    def join(self, i: int, j: int, at: int | None) -> None:
        """Stack two values at a new dimension, or add them up where `at` is None."""
        for x, y in zip(self.dims[i], self.dims[j], strict=True):
            unify(x, y)
        if at is None:
            return self.step(lambda v, n: [mixed(v[i], v[j])], self.dims[i])
        dims = [*self.dims[i][:at], Axis(2, "stacked"), *self.dims[i][at:]]
        return self.step(lambda v, n: [np.stack([v[i], v[j]], axis=at)], dims)

    def spread(self, i: int, j: int) -> None:
        """An outer sum over the first dimensions: x[a, *], y[b, *] -> [a, b, *]."""
        for x, y in zip(self.dims[i][1:], self.dims[j][1:], strict=True):
            unify(x, y)
        dims = [self.dims[i][0], *self.dims[j]]
        self.step(lambda v, n: [mixed(v[i][:, None], v[j][None])], dims)

    def pick(self, i: int, at: int) -> None:
        freeze(self.dims[i][at], "one unit is selected")
        dims = [d for k, d in enumerate(self.dims[i]) if k != at]
        self.step(lambda v, n: [v[i].take(0, axis=at)], dims)

    def roll(self, i: int, at: int) -> None:
        """Every unit of a dimension takes the place of its neighbour."""
        freeze(self.dims[i][at], "the position of a unit matters")
        mingle(self.dims[i], at)
        self.step(lambda v, n: [np.roll(v[i], 1, axis=at)], self.dims[i])

    def weigh(self, i: int) -> None:
        """Meet a parameter of the same shape."""
        self.join(i, self.leaf(self.arrays[i].shape), None)


SIZES = st.sampled_from([1, 2, 3, 4, 6, 8, 12])
STEPS = ["reshape", "reshape", "reshape", "permute", "permute", "split", "split", "slice", "cat", "stack", "add"]
STEPS += ["weigh", "spread", "pick", "roll"]


def regrouped(draw: st.DrawFn, shape: list[int]) -> list[int]:
    """A few dimensions merged with their neighbours, a few split in two."""
    shape = list(shape)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(shape) - 1))
        divisors = [n for n in range(2, shape[at]) if shape[at] % n == 0]
        if at + 1 < len(shape) and draw(st.booleans()):
            shape[at : at + 2] = [shape[at] * shape[at + 1]]
        elif divisors:
            n = draw(st.sampled_from(divisors))
            shape[at : at + 1] = [n, shape[at] // n]
    return shape


def partners(program: Program, i: int, ignored: int | None) -> list[int]:
    """The values whose shape is that of value `i`, one dimension ignored."""

    def key(shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(-1 if d == ignored else n for d, n in enumerate(shape))

    shapes = [array.shape for array in program.arrays]
    return [j for j, shape in enumerate(shapes) if key(shape) == key(shapes[i])]


def extend(draw: st.DrawFn, program: Program) -> None:
    """One random step."""
    i = draw(st.sampled_from([i for i, array in enumerate(program.arrays) if array.ndim and array.size]))
    shape = list(program.arrays[i].shape)
    at = draw(st.integers(0, len(shape) - 1))
    what = draw(st.sampled_from(STEPS))
    if what == "reshape":
        program.reshape(i, regrouped(draw, shape))
    elif what == "permute":
        program.permute(i, draw(st.permutations(range(len(shape)))))
    elif what in ("split", "slice") and shape[at] > 1:
        ends = draw(st.lists(st.integers(0, shape[at]), min_size=1, max_size=3))
        program.split(i, at, [*sorted(ends), shape[at]])
    elif what == "pick" and shape[at] > 1:
        program.pick(i, at)
    elif what == "roll":
        program.roll(i, at)
    elif what == "weigh":
        program.weigh(i)
    elif what == "cat":
        program.cat(i, draw(st.sampled_from(partners(program, i, at))), at)
    elif what in ("stack", "add"):
        j = draw(st.sampled_from(partners(program, i, None)))
        program.join(i, j, draw(st.integers(0, len(shape))) if what == "stack" else None)
    elif what == "spread":
        program.spread(i, draw(st.sampled_from(partners(program, i, 0))))


@st.composite
def programs(draw: st.DrawFn) -> Program:
    program = Program()
    for _ in range(draw(st.integers(1, 2))):
        program.leaf(draw(st.lists(SIZES, min_size=1, max_size=3)))
    for _ in range(draw(st.integers(1, 10))):
        if max(array.size for array in program.arrays) > 2000:
            break
        extend(draw, program)
    for i in program.leaves:  # parameters are sliced one dimension at a time
        for dim in program.dims[i]:
            settle([dim])
    return program


def all_axes(program: Program) -> list[Axis]:
    return list(dict.fromkeys(axis for dims in program.dims for dim in dims for axis in axes(dim)))


def tied(program: Program) -> list[set[Axis]]:
    """All axes in sets: those of one set are parts of cases that keep equal sizes, which the same share does."""
    sets: list[set[Axis]] = [{axis} for axis in all_axes(program)]
    for case in dict.fromkeys(case for (axis,) in list(sets) for case in axis.within):
        met = {axis for one in case.cases for axis in axes(one)}
        sets = [one for one in sets if met.isdisjoint(one)] + [met.union(*(o for o in sets if not met.isdisjoint(o)))]
    return sets


def dropped_at_random(program: Program, chance: random.Random) -> dict[Axis, list[int] | list[list[int]]]:
    """Kept units of every axis that is not frozen, one list per outer unit for those that choose anew."""
    kept: dict[Axis, list[int] | list[list[int]]] = {}
    for together in tied(program):
        if any(axis.frozen is not None or axis.n == axis.least for axis in together):
            continue  # for the others a constant
        steps = math.gcd(*(axis.n for axis in together))
        level = chance.randint(1, steps)
        for axis in sorted(together, key=lambda axis: axis.serial):
            count = max(axis.n // steps * level, axis.least)
            rows = [sorted(chance.sample(range(axis.n), count)) for _ in range(_outer_units(axis))]
            kept[axis] = rows if isinstance(axis, PerUnit) and axis.outer is not None else rows[0]
    return kept


def _outer_units(axis: Axis) -> int:
    return axis.outer.n if isinstance(axis, PerUnit) and axis.outer is not None else 1


def counts_of(kept: Kept) -> dict[Axis, int]:
    per_outer = (isinstance(axis, PerUnit) and axis.outer is not None for axis in kept)
    return {axis: len(k[0] if inner else k) for (axis, k), inner in zip(kept.items(), per_outer, strict=True)}


def hidden(dims: Sequence[Term]) -> bool:
    """Whether a case belongs to a selector that is not in sight, so that `settle` would merge it."""
    seen = {leaf for dim in dims for leaf in leaves_of(dim)}
    return any(isinstance(leaf, Case) and find(leaf.selector) not in seen for leaf in seen)


def broken_laws(program: Program, kept: Kept, where: Callable[[Term, Kept], list[int]] = positions) -> list[str]:
    """What does not hold when these units are kept; `where` gives the positions of a term."""
    counts = counts_of(kept)
    leaves = {i: labels[np.ix_(*(where(d, kept) for d in program.dims[i]))] for i, labels in program.leaves.items()}
    broken = []
    for i, pruned in enumerate(program.again(leaves, lambda term: size(term, counts))):
        dims, full = program.dims[i], program.arrays[i]
        if pruned.shape != tuple(size(dim, counts) for dim in dims):
            broken.append(f"value {i}: {pruned.shape} is not the size of {dims}")
        if not set(pruned.flat) <= set(full.flat):
            broken.append(f"value {i}: units meet that never met: {dims}")
        told = not loose(dims) and not hidden(dims)
        if told and not np.array_equal(full.reshape(-1)[where(product(dims), kept)], pruned.reshape(-1)):
            broken.append(f"value {i}: other units than those of {dims}")
        if not any(loose([dim]) or hidden([dim]) for dim in dims):
            places = np.ix_(*(where(dim, kept) for dim in dims))
            if not np.array_equal(full[places], pruned):
                broken.append(f"value {i}: other units than those of {dims}, dimension by dimension")
    return broken


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs(), st.randoms(use_true_random=False))
def test_positions_select_what_the_pruned_program_makes(program: Program, chance: random.Random) -> None:
    assert broken_laws(program, dropped_at_random(program, chance)) == []


def shuffled() -> Program:
    """Channel shuffle of 12 channels: every group keeps units of its own."""
    program = Program()
    program.leaf([12])
    program.reshape(0, [3, 4])
    program.permute(1, [1, 0])
    program.reshape(2, [12])
    program.cat(3, 0, 0)
    return program


def in_order(term: Term, keep: Kept) -> list[int]:
    return sorted(positions(term, keep))


def no_offsets(term: Term, keep: Kept) -> list[int]:
    term = find(term)
    return [i for part in term.parts for i in positions(part, keep)] if isinstance(term, Cat) else positions(term, keep)


def own_choices(program: Program) -> Kept:
    groups, inner = axes(program.dims[0][0])
    return {groups: [0, 2], inner: [[0, 1], [0, 1], [2, 3]]}


@pytest.mark.parametrize("where", [in_order, no_offsets])
def test_the_checker_catches_wrong_positions(where: Callable[[Term, Kept], list[int]]) -> None:
    program = shuffled()
    kept = own_choices(program)
    assert broken_laws(program, kept) == []
    assert any("other units" in line for line in broken_laws(program, kept, where))


@pytest.mark.parametrize("careful", [True, False])
def test_the_checker_catches_choices_that_nobody_settled(careful: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not careful:
        monkeypatch.setitem(globals(), "settle", lambda dims: None)
    program = shuffled()
    program.split(1, 0, [1, 2, 3])
    program.join(6, 7, None)
    (inner,) = (axis for axis in all_axes(program) if axis.n == 4)
    choices: Kept = {inner: [0] if careful else [[0], [1], [2]]}
    assert careful == (broken_laws(program, choices) == [])


@pytest.mark.parametrize(
    ("build", "sizes", "kind"),
    [
        (cat, [2, 3], Cat),
        (cat, [2, 0, 3], Cat),
        (cat, [5], Axis),
        (cat, [0, 5], Axis),
        (product, [2, 3], Product),
        (product, [1, 6, 1], Axis),
        (product, [1, 1], Axis),
        (product, [], Axis),
    ],
)
def test_normal_form(build: Callable[[list[Term]], Term], sizes: list[int], kind: type) -> None:
    made = build([Axis(n) if n != 1 else ONE for n in sizes])
    assert type(made) is kind
    assert made.n == (sum(sizes) if build is cat else math.prod(sizes))


@pytest.mark.parametrize("build", [cat, product])
def test_nothing_sits_in_its_own_kind(build: Callable[[list[Term]], Term]) -> None:
    a, b, c = Axis(2), Axis(3), Axis(4)
    assert same(build([build([a, b]), c]), build([a, b, c]))
    unify(outer := Axis(build([a, b]).n), build([a, b]))
    assert same(build([outer, c]), build([a, b, c]))


def test_find_reads_through_chains_of_bindings() -> None:
    chain = [Axis(6) for _ in range(500)]
    late = product([chain[0], Axis(2)])
    for x, y in itertools.pairwise(chain):
        unify(x, y)
    unify(chain[-1], product([Axis(2), Axis(3)]))
    assert [part.n for part in late.parts] == [6, 2]  # type: ignore[union-attr]
    assert [axis.n for axis in axes(late)] == [2, 3, 2]


def concat(*sizes: int) -> Term:
    return cat([Axis(n) for n in sizes])


def grid(*sizes: int) -> Term:
    return product([Axis(n) for n in sizes])


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (Axis(6), Axis(6), [6]),
        (Axis(6), concat(2, 4), [2, 4]),
        (Axis(6), grid(2, 3), [2, 3]),
        (concat(2, 4), concat(4, 2), [2, 2, 2]),
        (concat(2, 4), concat(2, 4), [2, 4]),
        (grid(2, 6), grid(4, 3), [2, 2, 3]),
        (grid(6, 2), grid(2, 6), [2, 3, 2]),
        (concat(4, 8), grid(3, 4), [1, 2, 4]),
        (product([concat(1, 2), Axis(4)]), concat(4, 8), [1, 2, 4]),
        (concat(2, 4, 6), concat(6, 6), [2, 4, 6]),
    ],
)
def test_unify_finds_the_coarsest_refinement(x: Term, y: Term, expected: list[int]) -> None:
    unify(x, y, "no refinement")
    found = [axis for axis in dict.fromkeys([*axes(x), *axes(y)]) if axis.n > 1]
    assert sorted(axis.n for axis in found) == sorted(n for n in expected if n > 1)
    assert all(axis.frozen is None for axis in found)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (grid(2, 3), grid(3, 2)),
        (concat(3, 3), grid(3, 2)),
        (grid(4, 9), grid(6, 6)),
    ],
)
def test_what_has_no_common_refinement_freezes_on_both_sides(x: Term, y: Term) -> None:
    unify(x, y, lambda: "lazy reason")
    assert {axis.frozen for term in (x, y) for axis in axes(term)} == {"lazy reason"}


@pytest.mark.parametrize("sizes", [[2, 3], [6]])
def test_binding_carries_every_mark(sizes: list[int]) -> None:
    frozen, unsure, held = Axis(6, "why"), Axis(6), Axis(6)
    mark_inexact(unsure, "mean", unsafe=True)
    keep_at_least(held, 2)
    parts = [product([Axis(n) for n in sizes]) for _ in range(3)]
    for axis, term in zip((frozen, unsure, held), parts, strict=True):
        unify(axis, term)
    assert {axis.frozen for axis in axes(parts[0])} == {"why"}
    assert {(axis.inexact, axis.unsafe) for axis in axes(parts[1])} == {("mean", True)}
    assert {axis.least for axis in axes(parts[2])} == {2}


def test_the_first_reason_to_freeze_is_kept_and_the_second_never_made() -> None:
    axis = Axis(3)
    freeze(axis, "first")
    freeze(axis, lambda: pytest.fail("a reason that nobody needs costs time"))
    assert axis.frozen == "first"


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ([("mean", False)], ("mean", False)),
        ([("mean", False), ("variance", False)], ("mean", False)),
        ([("mean", False), ("softmax", True)], ("softmax", True)),
        ([("softmax", True), ("mean", False)], ("softmax", True)),
    ],
)
def test_an_unsafe_reason_replaces_a_safe_one(marks: list[tuple[str, bool]], expected: tuple[str, bool]) -> None:
    axis = Axis(3)
    for why, unsafe in marks:
        mark_inexact(axis, why, unsafe=unsafe)
    assert (axis.inexact, axis.unsafe) == expected


def test_a_frozen_axis_is_not_inexact() -> None:
    axis = Axis(3, "frozen")
    mark_inexact(axis, "mean", unsafe=True)
    assert (axis.inexact, axis.unsafe) == (None, False)


@pytest.mark.parametrize(("asked", "expected"), [([2], 2), ([2, 3], 3), ([3, 2], 3), ([9], 4)])
def test_least_only_grows_and_never_beyond_the_size(asked: list[int], expected: int) -> None:
    axis = Axis(4)
    for count in asked:
        keep_at_least(axis, count)
    assert axis.least == expected


def heads(h: int = 3, d: int = 4) -> tuple[Axis, PerUnit]:
    outer, inner = factor(Axis(h * d), [h, d]) or ()
    assert isinstance(outer, Axis)
    assert isinstance(inner, PerUnit)
    return outer, inner


def test_a_factored_axis_chooses_anew_for_every_outer_unit() -> None:
    outer, inner = heads()
    assert inner.outer is outer


H, D = heads()
HALVES = [Axis(1), Axis(2)]


@pytest.mark.parametrize(
    ("dims", "settled"),
    [
        (lambda h, d: [h, d], True),
        (lambda h, d: [d, h], True),
        (lambda h, d: [product([h, d])], True),
        (lambda h, d: [product([d, Axis(2), h])], True),
        (lambda h, d: [d], False),
        (lambda h, d: [Axis(3), d], False),
        (lambda h, d: [h, h, d], False),
        (lambda h, d: [h, d, d], True),
        (lambda h, d: [cat([product([h, d]), product([h, Axis(2)])])], True),
        (lambda h, d: [cat([product([h, d]), Axis(2)])], True),
        (lambda h, d: [cat([product([h, d]), d])], False),
        (lambda h, d: [h, cat([d, product([h, d])])], False),
        (lambda h, d: [product([cat([product([h, Axis(2)]), h]), d])], True),
        (lambda h, d: [product([cat([Axis(2), h]), d])], False),
        (lambda h, d: [h, cat([d, Axis(2)])], True),
    ],
)
def test_a_choice_is_settled_where_its_outer_unit_is_in_sight_once(
    dims: Callable[[Axis, PerUnit], list[Term]], settled: bool
) -> None:
    h, d = heads()
    settle(found := dims(h, d))
    assert (d.outer is h) == settled
    assert loose(found) == []


@pytest.mark.parametrize(
    ("dims", "met", "own"),
    [
        (lambda h, d: [h, d], 0, False),
        (lambda h, d: [h, d], 1, True),
        (lambda h, d: [product([Axis(2), h]), d], 0, False),
        (lambda h, d: [product([h, d]), Axis(2)], 0, True),
        (lambda h, d: [product([h, d]), Axis(2)], 1, True),
    ],
)
def test_units_that_meet_each_other_carry_no_choices(
    dims: Callable[[Axis, PerUnit], list[Term]], met: int, own: bool
) -> None:
    h, d = heads()
    mingle(dims(h, d), met)
    assert (d.outer is h) == own


def test_an_outer_axis_that_was_cut_is_still_in_sight() -> None:
    h, d = heads()
    cut(h, [1, 3])
    settle([h, d])
    assert same(d.outer or ONE, h)


@pytest.mark.parametrize("shared", [True, False])
def test_choices_stay_own_only_under_the_same_outer_units(shared: bool) -> None:
    (h, d), (g, e) = heads(), heads()
    if shared:
        unify(h, g)
    unify(d, e)
    met = find(e)
    assert isinstance(met, PerUnit)
    assert (met.outer is not None) == shared


def test_meeting_something_shared_collapses() -> None:
    _, d = heads()
    unify(d, Axis(4))
    assert not any(isinstance(axis, PerUnit) and axis.outer is not None for axis in axes(d))


def test_collapse_reaches_every_part() -> None:
    (h, d), (g, e) = heads(), heads()
    collapse(cat([product([h, d]), product([g, e])]))
    assert (d.outer, e.outer) == (None, None)


@pytest.mark.parametrize(
    ("term", "offsets", "expected"),
    [
        (Axis(7), [7], ["Axis"]),
        (Axis(7), [3, 7], ["Axis", "Axis"]),
        (concat(2, 3), [1, 5], ["Axis", "Cat"]),
        (concat(2, 3), [2, 5], ["Axis", "Axis"]),
        (grid(3, 2), [2, 6], ["Axis", "Product"]),
        (product([concat(1, 2), Axis(2)]), [2, 6], ["Axis", "Product"]),
        (Axis(7), [0, 7], ["Axis", "Axis"]),
        (Axis(7), [0, 3, 3, 7, 7], ["Axis"] * 5),
        (Axis(0), [0, 0], ["Axis", "Axis"]),
        (grid(3, 2), [0, 2, 6], ["Axis", "Axis", "Product"]),
        (grid(3, 2), [3, 6], None),
        (cat([grid(3, 2), Axis(2)]), [3, 8], None),
        (grid(100, 4), [2, 400], None),
    ],
)
def test_cut(term: Term, offsets: list[int], expected: list[str] | None) -> None:
    pieces = cut(term, offsets, "inside a unit")
    assert (pieces and [type(find(p)).__name__ for p in pieces]) == expected
    if pieces:
        assert list(np.cumsum([p.n for p in pieces])) == offsets
    else:
        assert {axis.frozen for axis in axes(term)} == {"inside a unit"}


@pytest.mark.parametrize(
    ("term", "sizes", "fits"),
    [
        (Axis(12), [12], True),
        (Axis(12), [3, 4], True),
        (Axis(12), [1, 3, 1, 4, 1], True),
        (Axis(1), [1, 1], True),
        (grid(2, 6), [4, 3], True),
        (grid(2, 6), [2, 2, 3], True),
        (concat(4, 8), [3, 4], True),
        (concat(4, 8), [3, 2, 2], True),
        (concat(5, 7), [6, 2], False),
        (grid(5, 3), [3, 5], False),
    ],
)
def test_factor(term: Term, sizes: list[int], fits: bool) -> None:
    parts = factor(term, sizes, "sizes that do not fit")
    assert (parts and [part.n for part in parts]) == (sizes if fits else None)
    frozen = {axis.frozen for axis in axes(term)} - {"size one"}
    assert frozen <= ({None} if fits else {"sizes that do not fit"})


@pytest.mark.parametrize(
    ("term", "sizes", "left"),
    [
        (concat(24, 36), [3, 20], [4, 16]),
        (concat(24, 216), [3, 80], [24, 56]),
        (concat(4, 8), [4, 3], [1, 2]),
        (grid(2, 6), [3, 4], [2, 2]),
        (product([Axis(3), concat(4, 8)]), [2, 18], [4, 2, 4, 2, 4, 2]),
    ],
)
def test_rows_that_straddle_parts_lose_the_same_units_and_all_stay(
    term: Term, sizes: list[int], left: list[int]
) -> None:
    rows, inner = factor(term, sizes, "groups") or ()
    assert [axis.frozen for axis in axes(rows)] == ["groups"]
    assert [axis.n for axis in axes(inner)] == left
    prunable = {axis for axis in axes(term) if axis.frozen is None}
    assert prunable == set(axes(inner))
    kept = {axis: list(range(axis.n - 1)) for axis in prunable if axis.n > 1}
    assert positions(term, kept) == positions(product([rows, inner]), kept)


def shuffle(program: Program, groups: int) -> int:
    """Shuffle the last value, a vector, and return its place."""
    (width,) = program.arrays[-1].shape
    program.reshape(len(program.dims) - 1, [groups, width // groups])
    program.permute(len(program.dims) - 1, [1, 0])
    program.reshape(len(program.dims) - 1, [width])
    return len(program.dims) - 1


@pytest.mark.parametrize(
    ("width", "groups", "into", "units"),
    [
        (60, 3, [3, 20], {6}),  # 20 = 6 x 3 + 2
        (30, 3, [3, 10], {3}),
        (44, 4, [4, 11], {2}),
        (96, 8, [8, 12], set()),  # no run of 8 fits twice into 12
        (50, 5, [2, 25], {2, 5}),  # 10 of 5 in turn are 2 x 5 of 5
        (36, 6, [2, 18], {2, 3, 6}),
        (60, 4, [2, 5, 6], set()),
        (150, 3, [3, 5, 10], set()),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_shuffled_channels_are_grouped_anew(
    width: int, groups: int, into: list[int], units: set[int], seed: int
) -> None:
    program = Program()
    program.leaf([width])
    shuffle(program, groups)
    for step in (lambda: None, lambda: program.reshape(len(program.dims) - 1, into)):
        step()
        program.weigh(len(program.dims) - 1)
    for i in program.leaves:
        for dim in program.dims[i]:
            settle([dim])
    free = {axis.n for axis in all_axes(program) if axis.frozen is None and axis.n > 1}
    assert free == units
    assert broken_laws(program, dropped_at_random(program, random.Random(seed))) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([2, 6], [4, 3]),
        ([12], [2, 1, 6]),
        ([1, 12, 1], [3, 4]),
        ([2, 3, 4], [24]),
        ([4, 6], [3, 8]),
        ([5, 3], [3, 5]),
        ([1], []),
        ([], [1, 1]),
        ([0, 3], [3, 0]),
    ],
)
def test_reshape_gives_the_shape_asked_for(old: list[int], new: list[int]) -> None:
    assert [dim.n for dim in reshape([Axis(n) if n != 1 else ONE for n in old], new)] == new


def test_a_cut_of_nothing_binds_nothing() -> None:
    whole = Axis(4)
    _, piece = cut(whole, [0, 4]) or ()
    assert piece is whole


def test_a_reshape_that_does_not_fit_freezes_old_and_new() -> None:
    old = [Axis(5), Axis(3)]
    new = reshape(old, [3, 5], "no way")
    assert {axis.frozen for dim in [*old, *new] for axis in axes(dim)} == {"no way"}


@pytest.mark.parametrize(
    ("term", "kept", "expected"),
    [
        (Axis(3), None, [0, 1, 2]),
        (H, [2], [2]),
        (product([H, D]), [[0, 1], [1, 2], [2, 3]], [0, 1, 5, 6, 10, 11]),
        (product([D, H]), [[0, 1], [1, 2], [2, 3]], [0, 4, 8, 3, 7, 11]),
        (product([H, cat([D, Axis(1)])]), [[0], [1], [3]], [0, 4, 6, 9, 13, 14]),
        (cat([product([H, D]), H]), [[0], [1], [3]], [0, 5, 11, 12, 13, 14]),
        (product([cat([H, H]), Axis(2)]), [0, 2], [0, 1, 4, 5, 6, 7, 10, 11]),
    ],
)
def test_positions(term: Term, kept: list[int] | list[list[int]] | None, expected: list[int]) -> None:
    axis = D if kept and isinstance(kept[0], list) else H
    assert positions(term, {} if kept is None else {axis: kept}) == expected


def test_an_outer_unit_is_found_inside_a_cat_beside_it() -> None:
    h, d = heads(2, 3)
    term = product([cat([product([h, Axis(2)]), h]), d])
    kept: Kept = {h: [1], d: [[0], [2]]}
    assert positions(term, kept) == [2 * 3 + 2, 3 * 3 + 2, 5 * 3 + 2]


def test_a_choice_without_its_outer_units_has_no_positions() -> None:
    _, d = heads()
    with pytest.raises(AssertionError, match="without its outer units"):
        positions(d, {d: [[0], [1], [2]]})


@pytest.mark.parametrize(("term", "expected"), [(H, 2), (D, 1), (product([H, D, Axis(5)]), 10), (cat([H, H]), 4)])
def test_kept_size(term: Term, expected: int) -> None:
    assert kept_size(term, {H: [0, 2], D: [[0], [1], [3]]}) == expected


def test_size_of_axes_that_are_not_counted_is_their_own() -> None:
    a, b = Axis(3), Axis(4)
    assert size(cat([product([a, b]), b]), {a: 2}) == 12


@given(st.lists(SIZES, min_size=1, max_size=4), st.data())
def test_unifying_equal_shapes_ends_and_makes_them_one(shape: list[int], data: st.DataObject) -> None:
    total = math.prod(shape)
    assume(total > 1)
    terms_ = [product([Axis(n) for n in regrouped(data.draw, [*shape])]) for _ in range(2)]
    unify(*terms_, why="no refinement")
    frozen = {axis.frozen for term in terms_ for axis in axes(term)}
    assert same(*terms_) or frozen - {None} == {"no refinement"}


def fused() -> tuple[Axis, list[Term]]:
    """A dimension of 2 x 3 x 4 units, told apart along the 2."""
    whole = Axis(24)
    dims = factor(whole, [2, 3, 4])
    assert dims is not None
    return whole, dims


def test_what_is_picked_chooses_for_itself() -> None:
    whole, dims = fused()
    (_, first), (_, second) = pick(dims, 0)
    assert first is not second
    assert same(whole, cat([product([dims[1], first]), product([dims[1], second])]))


def test_cases_merge_where_they_cannot_be_told_apart() -> None:
    _, dims = fused()
    (_, first), (_, second) = pick(dims, 0)
    settle([dims[1], find(dims[2])])
    assert find(first) is find(second)


def test_cases_merge_where_units_meet() -> None:
    _, dims = fused()
    (_, first), (_, second) = pick(dims, 0)
    mingle(dims, 0)
    assert find(first) is find(second)


def test_a_case_that_meets_an_axis_is_that_axis() -> None:
    _, dims = fused()
    (_, first), (_, second) = pick(dims, 0)
    other = Axis(4)
    unify(dims[2], other)
    assert find(first) is find(second) is find(other)
    assert isinstance(find(other), Axis)


def test_marks_reach_every_case() -> None:
    _, dims = fused()
    (_, first), (_, second) = pick(dims, 0)
    freeze(dims[2], "because")
    assert {axis.frozen for axis in (*axes(first), *axes(second))} == {"because"}


def test_a_frozen_axis_is_not_told_apart() -> None:
    _, dims = fused()
    freeze(dims[2], "because")
    (_, first), (_, second) = pick(dims, 0)
    assert first is second
