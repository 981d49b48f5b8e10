"""Integers that remember how they were computed.

During a traced run `x.shape[i]` and the integer attributes of modules are `Num`s: ints with an expression over tensor
dimensions and attributes. Arithmetic on them builds larger expressions. Each use of a `Num` is recorded in the active
`Ledger`:

    equation   it was used as a size: its expression must equal the size of that dimension's term
    guard      it was compared: the outcome must stay the same
    escape     it can no longer be tracked (float, int(), an argument other than a size): its value must stay the same
"""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from secateur.graph.sizes import Arithmetic, Expr, SizeEquation, SizeGuard


class Escape(NamedTuple):
    """The value of an expression was used at `where` for something that is not a size."""

    expr: Expr
    where: str


@dataclass
class Ledger:
    """The uses of the sizes of one trace."""

    equations: list[SizeEquation] = field(default_factory=list)
    guards: list[SizeGuard] = field(default_factory=list)
    escapes: list[Escape] = field(default_factory=list)
    uncounted: bool = False  # whether the current ops do not count as MACs of the model
    whole: Callable[[str, Any, Any], Any] | None = None  # keeps the history of `left op right` with floats


_active: list[Ledger] = []


class open_ledger:
    """Records the uses of Nums in the given ledger, within the context."""

    def __init__(self, ledger: Ledger):
        self.ledger = ledger

    def __enter__(self) -> Ledger:
        _active.append(self.ledger)
        return self.ledger

    def __exit__(self, *_: object) -> None:
        _active.pop()


@contextmanager
def uncounted() -> Iterator[None]:
    """Do not count multiply-adds: a plain form computes again what the model already has."""
    if _active:
        _active[-1].uncounted = True
    try:
        yield
    finally:
        if _active:
            _active[-1].uncounted = False


class Num(int):
    """An int that remembers the expression it came from."""

    expr: Expr

    def __new__(cls, value: int, expr: Expr) -> Num:
        self = int.__new__(cls, value)
        self.expr = expr
        return self

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int.__index__(self),)

    def __deepcopy__(self, memo: object) -> Num:
        return self

    def __hash__(self) -> int:
        escape(self, "used as a key")  # a lookup that finds nothing leaves no other record
        return int.__hash__(self)

    def __neg__(self) -> Num:
        return Num(-plain(self), Arithmetic("-", 0, self.expr))

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __pos__(self) -> Num:
        return self

    def __abs__(self) -> Num:
        return self if plain(self) >= 0 else -self

    __floor__ = __ceil__ = __trunc__ = __pos__

    def __round__(self, digits: Any = None) -> Any:
        return self if digits is None else round(plain(self), digits)

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        if type(other) is int and 0 < other <= 4 and modulo is None:
            return math.prod([self] * other)
        escape(self, "raised to a power")
        return int.__pow__(self, other, modulo) if modulo is not None else plain(self) ** other


def plain(value: int) -> int:
    """Return the plain int of a Num or bool, without recording an escape."""
    return int.__index__(value) if isinstance(value, int) else operator.index(value)


def expression(value: int) -> Expr:
    """Return the expression of a Num, or a literal itself."""
    return value.expr if isinstance(value, Num) else plain(value)


def escape(value: object, how: str) -> None:
    """Record that a Num can no longer be tracked; `how` says what it was used for."""
    if _active and isinstance(value, Num):
        _active[-1].escapes.append(Escape(value.expr, f"{how} at {source_line()}"))


def _arithmetic(method: str, op: str, reflected: bool) -> Callable[[Num, Any], Any]:
    base = getattr(int, method)

    def apply(self: Num, other: Any) -> Any:
        if not isinstance(other, int):
            return _met(self, op, other, reflected, base)
        mine, its = self.expr, expression(other)
        value = base(self, plain(other))
        return Num(value, Arithmetic(op, its, mine) if reflected else Arithmetic(op, mine, its))

    return apply


def _met(number: Num, op: str, other: Any, reflected: bool, base: Callable[[Num, Any], Any]) -> Any:
    """Return the result of an operation with something other than an int, or of `/`."""
    whole = _active[-1].whole if _active else None
    made = whole(op, *((other, number) if reflected else (number, other))) if whole is not None else None
    if made is None:
        escape(number, "combined with a value that is not an int")
        return base(number, other)
    return made


def _divided(method: str, reflected: bool) -> Callable[[Num, Any], Any]:
    base = getattr(int, method)
    return lambda self, other: _met(self, "/", other, reflected, base)


def _compared(method: str, op: str) -> Callable[[Num, Any], Any]:
    base = getattr(int, method)

    def apply(self: Num, other: Any) -> Any:
        outcome = base(self, other)
        if _active and outcome is not NotImplemented:
            _note(SizeGuard(op, self.expr, expression(other), outcome, ""))
        return outcome

    return apply


def _true(self: Num) -> bool:
    outcome = plain(self) != 0
    if _active:
        _note(SizeGuard("!=", self.expr, 0, outcome, ""))
    return outcome


def _note(guard: SizeGuard) -> None:
    if not _trivial(guard):
        _active[-1].guards.append(guard._replace(where=source_line()))


def _trivial(guard: SizeGuard) -> bool:
    """Return whether a comparison cannot change: sizes stay above zero, because no axis loses its last unit."""
    return type(guard.right) is int and guard.right <= 0 and _positive(guard.left)


def _positive(expr: Expr) -> bool:
    """Return whether an expression stays positive in every plan: remainders, differences and quotients may be zero."""
    if isinstance(expr, Arithmetic):
        return expr.op in "+*" and _positive(expr.left) and _positive(expr.right)
    return not isinstance(expr, int) or expr > 0


def _escaping(method: str) -> Callable[..., Any]:
    base = getattr(int, method)

    def apply(self: Num, *args: Any) -> Any:
        escape(self, "converted to a plain number")
        return base(self, *args)

    return apply


for _method, _op in (("add", "+"), ("sub", "-"), ("mul", "*"), ("floordiv", "//"), ("mod", "%")):
    setattr(Num, f"__{_method}__", _arithmetic(f"__{_method}__", _op, reflected=False))
    setattr(Num, f"__r{_method}__", _arithmetic(f"__r{_method}__", _op, reflected=True))
for _method, _op in (("eq", "=="), ("ne", "!="), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">=")):
    setattr(Num, f"__{_method}__", _compared(f"__{_method}__", _op))
Num.__bool__ = _true
for _method in ("__truediv__", "__rtruediv__"):
    setattr(Num, _method, _divided(_method, reflected=_method.startswith("__r")))
for _method in (
    *("__int__", "__float__", "__rpow__"),
    *("__str__", "__repr__", "__format__", "bit_length"),
    *("__and__", "__rand__", "__or__", "__ror__", "__xor__", "__rxor__", "__lshift__", "__rshift__", "__invert__"),
):
    setattr(Num, _method, _escaping(_method))


class Shape(tuple[int, ...]):
    """A stand-in for `torch.Size`, which would multiply its Nums in C and lose their history."""

    __slots__ = ()

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return torch.Size

    def numel(self) -> int:
        return math.prod(self)

    def __getitem__(self, at: Any) -> Any:
        found = tuple.__getitem__(self, at)
        return Shape(found) if isinstance(at, slice) else found

    def __add__(self, other: Any) -> Any:
        return Shape((*self, *other)) if isinstance(other, tuple) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return Shape((*other, *self)) if isinstance(other, tuple) else NotImplemented

    def __mul__(self, times: Any) -> Shape:
        return Shape(tuple.__mul__(self, times))

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return repr(torch.Size(map(plain, self)))

    def __reduce__(self) -> tuple[type[torch.Size], tuple[tuple[int, ...]]]:
        return torch.Size, (tuple(map(plain, self)),)

    def __deepcopy__(self, memo: object) -> torch.Size:
        return torch.Size(map(plain, self))


_OURS = f"{Path(__file__).parents[1]}{os.sep}"
_TORCH = f"{Path(torch.__file__).parent}{os.sep}"


def source_line() -> str:
    """Return the innermost line of the user's code, as `file:line`: outside torch, numpy and secateur."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        ours = path.startswith(_OURS) and not path.startswith(_OURS + "models")
        if not ours and not path.startswith((_TORCH, "<")) and f"{os.sep}numpy{os.sep}" not in path:
            return f"{_short(path)}:{frame.f_lineno}"
        frame = frame.f_back
    return "an unknown line"


def _short(path: str) -> str:
    return "/".join(path.split("/")[-3:]) if "site-packages" in path else "/".join(path.split("/")[-2:])
