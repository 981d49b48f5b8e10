"""Expressions over the sizes of dimensions and integer attributes, and the equations and guards between them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

from secateur.terms import Term


class Dim(NamedTuple):
    """The size of a tensor dimension."""

    term: Term


class Attribute(NamedTuple):
    """An integer attribute of a module; `at` is its index if the attribute is a tuple or list."""

    module: str
    name: str
    at: int | None = None

    def __str__(self) -> str:
        place = "" if self.at is None else f"[{self.at}]"
        return f"{self.module + '.' if self.module else ''}{self.name}{place}"


class Arithmetic(NamedTuple):
    """`left op right`, where `op` is one of + - * // %."""

    op: str
    left: Expr
    right: Expr


Expr: TypeAlias = "int | Dim | Attribute | Arithmetic"

EVALUATE: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class SizeEquation(NamedTuple):
    """`left == right` must hold; `where` is the source line that requires it."""

    left: Expr
    right: Expr
    where: str


class SizeGuard(NamedTuple):
    """A comparison `left op right` in the model's code at `where`, whose outcome must stay the same."""

    op: str
    left: Expr
    right: Expr
    outcome: bool
    where: str


def leaves(expr: Expr) -> Iterator[Dim | Attribute]:
    """Yield the dimensions and attributes in an expression."""
    if isinstance(expr, Arithmetic):
        yield from leaves(expr.left)
        yield from leaves(expr.right)
    elif not isinstance(expr, int):
        yield expr


def evaluate(expr: Expr, read: Callable[[Dim | Attribute], int]) -> int:
    """Return the value of an expression when its leaves have the values that `read` returns.

    >>> evaluate(Arithmetic("//", Attribute("m", "width"), 4), lambda leaf: 32)
    8
    """
    if isinstance(expr, Arithmetic):
        return EVALUATE[expr.op](evaluate(expr.left, read), evaluate(expr.right, read))
    return expr if isinstance(expr, int) else read(expr)


def holds(guard: SizeGuard, value: Callable[[Expr], int]) -> bool:
    """Return whether a comparison has the same outcome with new values."""
    return COMPARE[guard.op](value(guard.left), value(guard.right)) == guard.outcome
