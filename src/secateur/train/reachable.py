"""Find objects that an object holds, through attributes, containers, closures and globals of functions.

This finds the generators that a loader draws from, for example in a sampler, in a transform of its data set, in its
class or in the module of a function. No user code runs: attributes are read without `__getattr__` and the like, and
containers with the methods of the built-in type. Objects inside library modules and in large containers are not found.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

FEW = 64
"""A larger container is taken for data, and is not searched."""

_LEAVES = (Tensor, np.ndarray, np.generic, type, ModuleType, str, bytes, int, float)


def held(root: Any, *kinds: type) -> list[Any]:
    """Return the objects of these types that `root` holds, each once, in an order that depends only on `root`.

    Objects inside a found object are found too, such as the generator of a loader.

    >>> held({"a": [functools.partial(max, 1.5 + 2j)], "b": 3j}, complex)
    [(1.5+2j), 3j]
    """
    found, seen, left = [], dict[int, Any](), [root]  # seen objects stay alive, so that no id is reused
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen[id(one)] = one
        if issubclass(type(one), kinds):
            found.append(one)
        if one is not None and not issubclass(type(one), _LEAVES):
            left += reversed(list(_parts(one)))
    return found


def _parts(one: Any) -> Iterator[Any]:
    kind = type(one)
    for plain in (dict, list, tuple, deque):
        if issubclass(kind, plain) and plain.__len__(one) <= FEW:
            yield from dict.values(one) if plain is dict else plain.__iter__(one)
    if kind is functools.partial:
        yield from (one.func, one.args, one.keywords)
    elif kind is MethodType:
        yield from (one.__self__, one.__func__)
    elif kind is BuiltinFunctionType:
        yield one.__self__
    elif kind is FunctionType:
        yield from _of_function(one)
    else:
        yield from _attributes(one)


def _of_function(function: FunctionType) -> Iterator[Any]:
    """Yield the values that a function closes over, and the globals of its module that it uses."""
    yield from (function.__defaults__, function.__kwdefaults__)
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # the variable is not assigned yet
            yield cell.cell_contents
    for name in dict.fromkeys(_names(function.__code__)):
        value = function.__globals__.get(name)
        if not isinstance(value, FunctionType) or value.__module__ == function.__module__:
            yield value


def _names(code: CodeType) -> Iterator[str]:
    """Yield the names that code uses, also in functions and comprehensions inside it."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


def _attributes(one: Any) -> Iterator[Any]:
    with contextlib.suppress(AttributeError):
        for name, value in object.__getattribute__(one, "__dict__").items():
            if not (name == "_iterator" and isinstance(one, DataLoader)):  # running workers are temporary
                yield value
    for kind in type(one).__mro__:
        own = vars(kind)
        for value in own.values():
            if isinstance(value, MemberDescriptorType) and "__slots__" in own:
                with contextlib.suppress(AttributeError):
                    yield value.__get__(one)
            elif not _installed(kind.__module__):
                yield value.__func__ if isinstance(value, (staticmethod, classmethod)) else value


@functools.cache
def _installed(module: str) -> bool:
    """Return whether a module is of an installed library, whose classes draw only from generators they are given."""
    if module.partition(".")[0] in sys.stdlib_module_names - {"__main__"}:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and any(part in Path(file).parts for part in ("site-packages", "dist-packages"))


__all__ = ["held"]
