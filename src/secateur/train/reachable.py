"""What an object holds: found by walking through attributes, containers, and what functions close over.

So the generators that a loader draws from are found wherever they lie: in a sampler, in a transform of its data set, in
its class, in the file of a function. No code of the user's runs for it: attributes are read past `__getattr__` and its
like, containers by their own methods. Not found is what a library keeps to itself, and what lies among very many.
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
"""A container of more than that holds data."""

_LEAVES = (Tensor, np.ndarray, np.generic, type, ModuleType, str, bytes, int, float)


def held(root: Any, *kinds: type) -> list[Any]:
    """The objects of these kinds that `root` holds, each once; their order depends on how it was built alone.

    What one of them holds counts too, such as the generator of a loader.

    >>> held({"a": [functools.partial(max, 1.5 + 2j)], "b": 3j}, complex)
    [(1.5+2j), 3j]
    """
    found, seen, left = [], dict[int, Any](), [root]  # kept alive, lest an id be used again
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
    """What it closes over, and what it uses of its own file."""
    yield from (function.__defaults__, function.__kwdefaults__)
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # closes over what is not there yet
            yield cell.cell_contents
    for name in dict.fromkeys(_names(function.__code__)):
        value = function.__globals__.get(name)
        if not isinstance(value, FunctionType) or value.__module__ == function.__module__:
            yield value


def _names(code: CodeType) -> Iterator[str]:
    """The names that it uses, and those that functions and comprehensions in it use."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


def _attributes(one: Any) -> Iterator[Any]:
    with contextlib.suppress(AttributeError):
        for name, value in object.__getattribute__(one, "__dict__").items():
            if not (name == "_iterator" and isinstance(one, DataLoader)):  # workers that run come and go
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
    """Whether a module is a library's, whose classes draw from what they are given."""
    if module.partition(".")[0] in sys.stdlib_module_names - {"__main__"}:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and any(part in Path(file).parts for part in ("site-packages", "dist-packages"))


__all__ = ["held"]
