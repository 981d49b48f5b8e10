"""What an object holds: found by walking through attributes, containers, and what functions close over.

So the generators that a loader draws from are found wherever they lie: in a sampler, in a transform of its data set, in
the file of a function. Not found is what a library keeps to itself, and what lies among very many.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import DataLoader

FEW = 64
"""A container of more than that holds data."""

_LEAVES = (Tensor, np.ndarray, np.generic, nn.Module, type, ModuleType, BuiltinFunctionType, str, bytes, int, float)


def held(root: Any, *kinds: type) -> list[Any]:
    """The objects of these kinds that `root` holds, each once; their order depends on how it was built alone.

    >>> held({"a": [functools.partial(max, 1.5 + 2j)], "b": 3j}, complex)
    [(1.5+2j), 3j]
    """
    found, seen, left = [], dict[int, Any](), [root]  # kept alive, lest an id be used again
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen[id(one)] = one
        if isinstance(one, kinds):
            found.append(one)
        elif one is not None and not isinstance(one, _LEAVES):
            left += reversed(list(_parts(one)))
    return found


def _parts(one: Any) -> Iterator[Any]:
    if isinstance(one, (dict, list, tuple)):  # other mappings may read a file to say what they hold
        yield from () if len(one) > FEW else one.values() if isinstance(one, dict) else one
    elif isinstance(one, functools.partial):
        yield from (one.func, one.args, one.keywords)
    elif isinstance(one, MethodType):
        yield from (one.__self__, one.__func__)
    elif isinstance(one, FunctionType):
        yield from _of_function(one)
    else:
        yield from _attributes(one)


def _of_function(function: FunctionType) -> Iterator[Any]:
    """What it closes over, and what it uses of its own file."""
    yield from (function.__defaults__, function.__kwdefaults__)
    try:
        used = inspect.getclosurevars(function)
    except ValueError:  # closes over what is not there yet
        return
    yield from used.nonlocals.values()
    for value in used.globals.values():
        if not isinstance(value, FunctionType) or value.__module__ == function.__module__:
            yield value


def _attributes(one: Any) -> Iterator[Any]:
    for name, value in vars(one).items() if hasattr(one, "__dict__") else ():
        if not (name == "_iterator" and isinstance(one, DataLoader)):  # workers that run come and go
            yield value
    for kind in type(one).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        yield from (getattr(one, name, None) for name in ((slots,) if isinstance(slots, str) else slots))


__all__ = ["held"]
