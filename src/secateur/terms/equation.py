"""The notation in which users describe what an op does with units: `"b i, o i, o -> b o"`.

    equation := operands "->" operands        the tensor arguments of the op, in order, and its results
    operands := operand ("," operand)*
    operand  := dim*                          one per dimension, separated by blanks
    dim      := letter                        equal letters are pruned together; only in the operands: summed over
              | "!" letter                    not prunable: its units are mixed, counted or distinguished by position
              | "~" letter                    a mean, variance or norm is taken over it
              | "(" letter+ ")"               several letters in one dimension, outermost first: (h d)
              | "*"                           any number of dimensions, the same wherever it occurs
              | "1"                           a dimension of size one

A letter may be a word. A mark applies to every occurrence of its letter. A letter that occurs only in the results is
not prunable.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from secateur.errors import InputError

EquationDim: TypeAlias = "tuple[str, ...]"  # the letters of a dimension; empty for a dimension of size one
STAR = "*"
_TOKEN = re.compile(r"\s*(?:(?P<group>\([^()]*\))|(?P<dim>[!~]?[A-Za-z_]\w*|\*|1))(?=[\s(]|$)")
_LETTER = re.compile(r"[!~]?[A-Za-z_]\w*$")


@dataclass(frozen=True, slots=True)
class OpEquation:
    """A parsed equation: letters of `operands` and `results`; `whole` and `averaged` are those marked `!` and `~`."""

    text: str
    operands: tuple[tuple[EquationDim, ...], ...]
    results: tuple[tuple[EquationDim, ...], ...]
    whole: frozenset[str]
    averaged: frozenset[str]

    @staticmethod
    def parse(text: str) -> OpEquation:
        """Parse an equation. Raises `InputError`, which names the part that is not valid.

        >>> OpEquation.parse("n c *, c -> n c *").operands
        ((('n',), ('c',), ('*',)), (('c',),))
        """
        left, arrow, right = text.partition("->")
        if not arrow or "->" in right:
            raise InputError(f"{text!r} has {'no' if not arrow else 'more than one'} '->'; write 'n c *, c -> n c *'")
        marks: dict[str, set[str]] = {"!": set(), "~": set()}
        operands, results = (
            tuple(tuple(_dims(part, text, marks)) for part in side.split(",")) for side in (left, right)
        )
        both = marks["!"] & marks["~"]
        if both:
            raise InputError(f"{text!r} marks {min(both)!r} both ! and ~; ! alone says that its units stay")
        return OpEquation(text, operands, results, frozenset(marks["!"]), frozenset(marks["~"]))

    def read(self, shapes: Sequence[Sequence[int]], made: Sequence[Sequence[int]]) -> EquationReading:
        """Apply the equation to tensors of these shapes. Raises `InputError` where it does not fit them."""
        if not len(shapes) <= len(self.operands) or len(made) != len(self.results):
            raise InputError(
                f"the rule {self.text!r} does not fit:\n"
                f"  rule  {len(self.operands)} operands, {len(self.results)} results\n"
                f"  op    {len(shapes)} tensors, {len(made)} results"
            )
        operands = [self._spread(dims, shape) for dims, shape in zip(self.operands, shapes, strict=False)]
        results = [self._spread(dims, shape) for dims, shape in zip(self.results, made, strict=True)]
        sizes = self._sizes([*zip(operands, shapes, strict=True), *zip(results, made, strict=True)])
        return EquationReading(tuple(operands), tuple(results), sizes)

    def _spread(self, dims: tuple[EquationDim, ...], shape: Sequence[int]) -> tuple[EquationDim, ...]:
        """Replace `*` by one letter for every dimension that it stands for, counted from the right."""
        count = len(shape) - len(dims) + ((STAR,) in dims)
        if count < 0 or (count > 0 and (STAR,) not in dims):
            raise InputError(
                f"the rule {self.text!r} does not fit:\n  rule  {_shown(dims)}\n  op    {' x '.join(map(str, shape))}"
            )
        star = [(f"*{place}",) for place in range(count, 0, -1)]
        return tuple(dim for old in dims for dim in (star if old == (STAR,) else [old]))

    def _sizes(self, tensors: Sequence[tuple[Sequence[EquationDim], Sequence[int]]]) -> dict[str, int]:
        """Return the size of every letter; one unknown letter of a group gets the size that the others leave."""
        found = sorted(((d, n) for dims, shape in tensors for d, n in zip(dims, shape, strict=True)), key=_width)
        sizes: dict[str, int] = {}
        for dim, n in found:
            unknown = [letter for letter in dim if letter not in sizes]
            known = math.prod(sizes[letter] for letter in dim if letter in sizes)
            if len(unknown) == 1 and (n % known == 0):
                sizes[unknown[0]] = n // known
            elif unknown or known != n:
                if len(dim) == 1 and 1 in (known, n):  # broadcast
                    sizes[dim[0]] = max(known, n)
                    continue
                found = ", ".join(f"{letter} is {sizes.get(letter, 'not known')}" for letter in dim) or "1 is 1"
                raise InputError(f"the rule {self.text!r} does not fit: {found}, in a dimension of size {n}")
        return sizes


@dataclass(frozen=True, slots=True)
class EquationReading:
    """An equation with `*` spread out, and the sizes of its letters."""

    operands: tuple[tuple[EquationDim, ...], ...]
    results: tuple[tuple[EquationDim, ...], ...]
    sizes: Mapping[str, int]


def _width(item: tuple[EquationDim, int]) -> int:
    return len(item[0])


def _dims(part: str, text: str, marks: Mapping[str, set[str]]) -> Iterator[EquationDim]:
    at, seen_star = 0, False
    while part[at:].strip():
        token = _TOKEN.match(part, at)
        letters = token[0].strip().strip("()").split() if token is not None else []
        bad = token is None or (token["group"] and not (letters and all(map(_LETTER.match, letters))))
        if bad or (letters == [STAR] and seen_star):
            raise InputError(
                f"{text!r} is not a valid equation at {part[at:].strip()!r}: "
                "write letters or words between blanks, 1, one *, !a, ~a or (a b)"
            )
        seen_star |= letters == [STAR]
        for letter in letters:
            if letter[0] in marks:
                marks[letter[0]].add(letter[1:])
        yield () if letters == ["1"] else tuple(letter.lstrip("!~") for letter in letters)
        at = token.end() if token is not None else at


def _shown(dims: Sequence[EquationDim]) -> str:
    return " ".join("1" if not dim else dim[0] if len(dim) == 1 else f"({' '.join(dim)})" for dim in dims)


def guess(operands: Sequence[Sequence[int]], results: Sequence[Sequence[int]]) -> str:
    """Return a first draft of an equation for tensors of these shapes, in which equal sizes share a letter.

    >>> guess([(2, 8, 4, 4), (8,)], [(2, 8, 4, 4)])
    'a b c d, b -> a b c d'
    """
    letters: dict[int, list[str]] = {}
    names = iter("abcdefghijklmnopqrstuvwxyz" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ")

    def named(shape: Sequence[int]) -> str:
        taken: dict[int, int] = {}
        found = []
        for n in shape:
            known = letters.setdefault(n, [])
            place = taken[n] = taken.get(n, -1) + 1
            if place == len(known):
                known.append(next(names, f"a{len(known)}"))
            found.append("1" if n == 1 else known[place])
        return " ".join(found)

    sides = (", ".join(map(named, shapes)) for shapes in (operands, results))
    return " -> ".join(sides)
