"""Replaces `int`, `len` and `numpy.prod` during a trace, so that sizes keep their history through them.

These functions run in C, which turns `Num`s into plain ints. Within `followed`, the names refer to versions that return
the same and keep the history of sizes: in the files that contain the code of a model and, for `prod`, in numpy itself.
For values other than `Num`s, and for other threads, nothing changes. A file whose code does more with `int` than call
it (`type(n) is int`, `dtype=int`) keeps the original.
"""

from __future__ import annotations

import dis
import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, wraps
from types import CodeType, FunctionType
from typing import Any, TypeAlias

import torch
from torch import nn

from secateur.graph.sizes import Arithmetic, Expr
from secateur.trace.memoised import Memoised, Search, names_in
from secateur.trace.tracked_ints import Num, expression, plain

NameTable: TypeAlias = "dict[str, Any]"  # the globals of a module
Names: TypeAlias = "NameTable | type"  # what binds a name: the globals of a module, or a class


class Quotient:
    """An integer that the code treats as a float: `int()` makes it a size again, any other use lets it escape."""

    def __init__(self, value: int, expr: Expr):
        self.number = Num(value, expr)

    def __float__(self) -> float:
        return float(self.number)  # escapes


def _escaping(name: str) -> Any:
    def method(self: Quotient, *others: Any) -> Any:
        return getattr(float(self), name)(*others)

    return method


for _name in (
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "rfloordiv", "mod", "rmod"),
    *("pow", "rpow", "neg", "pos", "abs", "eq", "ne", "lt", "le", "gt", "ge", "hash", "bool"),
    *("round", "trunc", "floor", "ceil", "str", "repr", "format"),
):
    setattr(Quotient, f"__{_name}__", _escaping(f"__{_name}__"))


def whole(op: str, left: Any, right: Any) -> Quotient | None:
    """Return `left op right`, of floats or by `/`, as a Quotient if it is an integer, else None."""
    if (
        op == "/"
        and isinstance(left, int)
        and isinstance(right, int)
        and plain(right)
        and not plain(left) % plain(right)
    ):
        return Quotient(plain(left) // plain(right), Arithmetic("//", expression(left), expression(right)))
    number, factor = (left, right) if isinstance(left, Num) else (right, left)
    if op == "*" and type(factor) is float and factor.is_integer() and factor > 0:
        return Quotient(plain(number) * int(factor), Arithmetic("*", expression(number), int(factor)))
    return None


class _Kind(type):
    """Makes `_Int` equal to `int`, `isinstance(x, _Int)` true for ints, and `_Int(x)` keep the history of a size."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, int)

    def __subclasscheck__(cls, subclass: Any) -> bool:
        return issubclass(subclass, int)

    def __eq__(cls, other: object) -> bool:
        return other is int or other is cls

    def __hash__(cls) -> int:
        return hash(int)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], (Num, Quotient)):
            return args[0] if isinstance(args[0], Num) else args[0].number
        return int(*args, **kwargs)


class _Int(int, metaclass=_Kind):
    pass


def _len(of: Any, /) -> int:
    return of.size(0) if isinstance(of, torch.Tensor) and of.dim() else len(of)


class Scalar(Num):
    """A Num in place of a numpy integer, with the methods that ints lack."""

    def item(self) -> Num:
        return Num(plain(self), self.expr)

    def astype(self, dtype: Any) -> Any:
        return self if _is_whole(dtype) else sys.modules["numpy"].int64(self).astype(dtype)  # escapes


@lru_cache(maxsize=1)
def _following(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `numpy.prod` that multiplies Nums as `math.prod` does."""

    @wraps(original)
    def prod(a: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(a, (tuple, list)) and any(isinstance(n, Num) for n in a) and _is_plain(a, args, kwargs):
            number = math.prod(a)
            return Scalar(plain(number), expression(number))
        return original(a, *args, **kwargs)

    return prod


def _is_plain(numbers: Iterable[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether these are ints, and all of them are multiplied into one."""
    asked = {**dict(zip(("axis", "dtype"), args, strict=False)), **kwargs}
    along, dtype = asked.pop("axis", None), asked.pop("dtype", None)
    no_more = not asked and len(args) <= 2
    return no_more and along in (None, 0, -1) and _is_whole(dtype) and all(isinstance(n, int) for n in numbers)


def _is_whole(dtype: Any) -> bool:
    return dtype is None or dtype in (int, "int", "int64", sys.modules["numpy"].int64)


_NOT_THEIRS = frozenset(("torch", *sys.stdlib_module_names))
_THE_REAL = object()  # marks a name that is not among the globals


@dataclass
class _Replaced:
    """A name in a module that is replaced; `traces` counts the running traces that need it."""

    names: Names
    name: str
    old: Any
    traces: int = 0


_lock = threading.Lock()
_replaced: dict[tuple[int, str], _Replaced] = {}


@contextmanager
def followed(model: nn.Module, kinds: Iterable[type] = ()) -> Iterator[None]:
    """Make `int`, `len` and `numpy.prod` keep the history of sizes in the code of a model and of classes."""
    taken: list[_Replaced] = []
    try:
        with _lock:
            taken.extend(_replace(*meaning) for meaning in _meanings(model, kinds))
        yield
    finally:
        with _lock:
            for one in taken:
                _put_back(one)


def _replace(names: Names, name: str, new: Any) -> _Replaced:
    one = _replaced.setdefault((id(names), name), _Replaced(names, name, _table(names).get(name, _THE_REAL)))
    one.traces += 1
    _put(names, name, new)
    return one


def _table(names: Names) -> Mapping[str, Any]:
    return vars(names) if isinstance(names, type) else names


def _put(names: Names, name: str, value: Any) -> None:
    if isinstance(names, type):
        setattr(names, name, value)
    elif value is _THE_REAL:
        del names[name]
    else:
        names[name] = value


def _put_back(one: _Replaced) -> None:
    one.traces -= 1
    if one.traces:
        return
    del _replaced[id(one.names), one.name]
    _put(one.names, one.name, one.old)


def _meanings(model: nn.Module, kinds: Iterable[type]) -> list[tuple[Names, str, Any]]:
    """Return the names to replace: (globals, name, replacement)."""
    code = _code_of(model, kinds)
    files = {id(names): names for names in map(_globals_of, code)}
    strict = {id(_globals_of(held)) for held in code if not _only_calls_int(held)}
    found: list[tuple[Names, str, Any]] = [
        (n, "int", _Int) for key, n in files.items() if key not in strict and _is_real(n, "int")
    ]
    found += [(n, "len", _len) for n in files.values() if _is_real(n, "len")]
    found += [(one.owner, one.name, one.replacement()) for one in _memoised(code)]
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return found
    held = _replaced.get((id(vars(numpy)), "prod"))
    original = numpy.prod if held is None else held.old
    prod = _following(original)
    return [*found, *((n, name, prod) for n in (*files.values(), vars(numpy)) for name in _bound(n, (original, prod)))]


def _memoised(code: Iterable[type | FunctionType]) -> list[Memoised]:
    """The cached functions that this code reaches, as they are outside of any trace."""
    search = Search(lambda module: (module or "").partition(".")[0] not in _NOT_THEIRS)
    for held in code:
        search.of(held)
    return [*search.found.values()]


def _is_real(names: NameTable, name: str) -> bool:
    return name not in names or (id(names), name) in _replaced


def _bound(names: NameTable, values: tuple[Any, ...]) -> list[str]:
    return [name for name, value in names.items() if any(value is one for one in values)]


def _code_of(model: nn.Module, further: Iterable[type]) -> list[type | FunctionType]:
    """Return the classes of a model's modules, their bases and functions, except those of torch and Python."""
    kinds = dict.fromkeys(further)
    functions: dict[FunctionType, None] = {}
    for module in model.modules():
        kinds[type(module)] = None
        functions.update((held, None) for held in vars(module).values() if type(held) is FunctionType)
    bases = dict.fromkeys(base for kind in kinds for base in kind.__mro__ if base.__module__ in sys.modules)
    return [held for held in (*bases, *functions) if (held.__module__ or "").partition(".")[0] not in _NOT_THEIRS]


def _globals_of(held: type | FunctionType) -> NameTable:
    return held.__globals__ if isinstance(held, FunctionType) else vars(sys.modules[held.__module__])


@lru_cache(maxsize=4096)
def _only_calls_int(held: type | FunctionType) -> bool:
    """Return whether this code, and what it refers to in its module, never needs the class `int` itself."""
    names = _globals_of(held)
    waiting = _codes(held, names)
    seen = set(map(id, waiting))
    while waiting:
        code = waiting.pop()
        if not _calls_int(code):
            return False
        more = [c for name in names_in(code) if name in names for c in _codes(names[name], names) if id(c) not in seen]
        seen.update(map(id, more))
        waiting += more
    return True


def _codes(value: Any, names: NameTable) -> list[CodeType]:
    """Return the code of a function, or of the methods of a class, in the module with these globals."""
    if isinstance(value, type):
        methods = (getattr(held, "__func__", None) or getattr(held, "fget", held) for held in vars(value).values())
        return [code for held in methods if not isinstance(held, type) for code in _codes(held, names)]
    return [value.__code__] if isinstance(value, FunctionType) and value.__globals__ is names else []


def _calls_int(code: CodeType) -> bool:
    inner = all(_calls_int(part) for part in code.co_consts if isinstance(part, CodeType))
    return inner and ("int" not in code.co_names or _harmless(code))


@lru_cache(maxsize=4096)
def _harmless(code: CodeType) -> bool:
    """Return whether `int` is never compared by `is`, and never a last or named argument except of `isinstance`."""
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("CACHE", "PRECALL", "EXTENDED_ARG")]
    for i, step in enumerate(steps[:-1]):
        if step.argval == "int" and step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            after = steps[i + 1]
            named = after.opname == "KW_NAMES" or isinstance(after.argval, tuple)
            if after.opname == "IS_OP" or named:
                return False
            if after.opname.startswith("CALL") and not _of_isinstance(steps[:i]):
                return False
    return True


def _of_isinstance(steps: list[dis.Instruction]) -> bool:
    """Return whether the call whose arguments these steps end with is one of `isinstance`."""
    for step in reversed(steps):
        if step.opname.startswith("CALL"):
            return False
        if step.opname == "LOAD_GLOBAL" and step.argval in ("isinstance", "issubclass"):
            return True
    return False


__all__ = ["Quotient", "Scalar", "followed", "whole"]
