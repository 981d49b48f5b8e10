"""The tensors inside the inputs and outputs of a model: in containers, dataclasses and other objects.

Three kinds of values are searched, in this order:

1. containers registered with torch's pytree: lists, tuples, dicts, named tuples and, for example, the outputs of
   Hugging Face models;
2. other mappings;
3. the attributes and slots of any other object: a dataclass (frozen or not), DETR's NestedTensor, a batch of graphs, a
   distribution.

Modules, classes and functions are not data and are skipped. `tensors_in` also skips the key-value caches that Hugging
Face models return: they are state, not outputs, and their contents shrink with a cut.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

PLAIN = (str, bytes, int, float, complex, bool, type(None), Enum, torch.Size, torch.dtype, torch.device, range, slice)
NO_DATA = (nn.Module, type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Return the tensors in a value, in order. An object that occurs more than once is searched once.

    >>> tensors_in({"a": [torch.zeros(1)], "b": None, "c": types.SimpleNamespace(x=torch.ones(2))})
    [tensor([0.]), tensor([1., 1.])]
    """
    return list(_tensors(value, set()))


def _tensors(value: Any, met: set[int]) -> Iterator[torch.Tensor]:
    for leaf in pytree.tree_leaves(value):
        if isinstance(leaf, torch.Tensor):
            yield leaf
        elif is_object(leaf) and not is_cache(leaf) and id(leaf) not in met:
            met.add(id(leaf))
            for part in _parts(leaf).values():
                yield from _tensors(part, met)


def is_object(value: Any) -> bool:
    """Return whether an object may hold tensors, unlike numbers, strings, arrays, modules, classes and functions."""
    return not isinstance(value, (*PLAIN, *NO_DATA, np.ndarray, np.generic))


def is_cache(value: Any) -> bool:
    """Return whether this is a key-value cache of a Hugging Face model."""
    return any(kind.__name__ == "Cache" and kind.__module__.startswith("transformers.") for kind in type(value).__mro__)


def _parts(value: Any) -> dict[Any, Any]:
    """Return the parts of an object: the entries of a mapping; the attributes and filled slots of anything else."""
    if isinstance(value, Mapping):
        return dict(value)
    held = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        for slot in _slots(kind):
            if hasattr(value, slot):
                held.setdefault(slot, getattr(value, slot))
    return held


def _slots(kind: type) -> Collection[str]:
    named = vars(kind).get("__slots__", ())
    return [name for name in ([named] if isinstance(named, str) else named) if not name.startswith("__")]


def changed(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return a copy of a value in which every tensor is replaced by `change(tensor)`. The value itself stays unchanged.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Graph:
    ...     x: torch.Tensor
    >>> old = Graph(torch.ones(2))
    >>> changed([old, 3], lambda t: 2 * t), old
    ([Graph(x=tensor([2., 2.])), 3], Graph(x=tensor([1., 1.])))
    """
    return _changed(value, change, {})


def _changed(value: Any, change: Callable[[torch.Tensor], torch.Tensor], made: dict[int, Any]) -> Any:
    def leaf(part: Any) -> Any:
        if isinstance(part, torch.Tensor):
            return change(part)
        if not is_object(part) or not (is_cache(part) or tensors_in(part)):
            return part
        return made[id(part)] if id(part) in made else _copied(part, change, made)

    return pytree.tree_map(leaf, value)


def _copied(value: Any, change: Callable[[torch.Tensor], torch.Tensor], made: dict[int, Any]) -> Any:
    new = made[id(value)] = copy.copy(value)
    for name, part in _parts(new).items():
        other = _changed(part, change, made)
        if other is part:
            continue
        if isinstance(value, Mapping):
            new[name] = other
        elif name in getattr(new, "__dict__", {}):
            new.__dict__[name] = other
        else:
            object.__setattr__(new, name, other)  # works for slots and for frozen dataclasses
    return new


__all__ = ["changed", "is_cache", "is_object", "tensors_in"]
