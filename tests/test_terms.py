from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from secateur import terms
from secateur.terms import (
    ONE,
    Axis,
    Cat,
    Each,
    Kept,
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
    loose,
    mark_inexact,
    positions,
    product,
    reshape,
    same,
    settle,
    size,
    unify,
)

# --- the law: programs on arrays of labels ------------------------------------------------------------------------------
#
# A program runs at the same time on arrays, whose elements are labels that no two leaves share, and on terms. Then units
# are dropped and it runs again on the pruned leaves, its sizes read from the terms. Whatever it makes must be what the
# positions of the terms select of the first run.

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

    # --- what a program can do ---

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

    def weigh(self, i: int) -> None:
        """Meet a parameter of the same shape."""
        self.join(i, self.leaf(self.arrays[i].shape), None)


SIZES = st.sampled_from([1, 2, 3, 4, 6, 8, 12])
STEPS = ["reshape", "reshape", "reshape", "permute", "permute", "split", "split", "slice", "cat", "stack", "add"]
STEPS += ["weigh", "spread", "pick"]


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
        ends = draw(st.lists(st.integers(1, shape[at] - 1), min_size=1, max_size=3, unique=True))
        program.split(i, at, [*sorted(ends), shape[at]])
    elif what == "pick" and shape[at] > 1:
        program.pick(i, at)
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


def dropped_at_random(program: Program, chance: random.Random) -> dict[Axis, list[int] | list[list[int]]]:
    """Kept units of every axis that is not frozen, one list per outer unit for those that choose anew."""
    kept: dict[Axis, list[int] | list[list[int]]] = {}
    for axis in all_axes(program):
        if axis.frozen is None:
            count = chance.randint(axis.least, axis.n)
            rows = [sorted(chance.sample(range(axis.n), count)) for _ in range(_outer_units(axis))]
            kept[axis] = rows if isinstance(axis, Each) and axis.outer is not None else rows[0]
    return kept


def _outer_units(axis: Axis) -> int:
    return axis.outer.n if isinstance(axis, Each) and axis.outer is not None else 1


def counts_of(kept: Kept) -> dict[Axis, int]:
    per_outer = (isinstance(axis, Each) and axis.outer is not None for axis in kept)
    return {axis: len(k[0] if inner else k) for (axis, k), inner in zip(kept.items(), per_outer, strict=True)}


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
        if not loose(dims) and not np.array_equal(full.reshape(-1)[where(product(dims), kept)], pruned.reshape(-1)):
            broken.append(f"value {i}: other units than those of {dims}")
        if not any(loose([dim]) for dim in dims):
            places = np.ix_(*(where(dim, kept) for dim in dims))
            if not np.array_equal(full[places], pruned):
                broken.append(f"value {i}: other units than those of {dims}, dimension by dimension")
    return broken


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs(), st.randoms(use_true_random=False))
def test_positions_select_what_the_pruned_program_makes(program: Program, chance: random.Random) -> None:
    assert broken_laws(program, dropped_at_random(program, chance)) == []
