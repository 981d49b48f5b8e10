"""What values refer to: the items of containers, the attributes of objects, the closures of functions."""

from __future__ import annotations

import functools
import weakref
from collections import deque
from collections.abc import Iterator
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, MethodWrapperType
from typing import Any

from secateur.anatomy.holders import has_attributes, values

BUILTIN = (BuiltinFunctionType, MethodWrapperType)
CACHED = type(functools.lru_cache(lambda: None))


def parts(value: Any) -> Iterator[Any]:
    """Yield what a value refers to directly; nothing for modules and tensors.

    >>> list(parts({"a": 1, "b": [2]}))
    [1, [2]]
    """
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, (tuple, list, set, frozenset, deque)):
        yield from value
    elif isinstance(value, FunctionType):
        yield from value.__closure__ or ()
        yield from (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *vars(value).values())
    elif isinstance(value, CellType):
        yield from contents(value)
    elif isinstance(value, MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, BUILTIN):
        yield value.__self__
    elif isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, weakref.ref):
        yield value()
    elif isinstance(value, CACHED):
        yield value.__wrapped__
    elif has_attributes(value):
        yield from values(value).values()


def contents(cell: CellType) -> list[Any]:
    """Return what is in the cell of a closure, if anything is."""
    try:
        return [cell.cell_contents]
    except ValueError:
        return []
