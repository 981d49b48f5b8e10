"""Tensors in whatever a model takes or returns: containers, dataclasses, and objects that hold some.

Looked into, in this order: what torch's pytree knows (lists, tuples, dicts, named tuples and every class that is
registered there, as the outputs of Hugging Face models are), other mappings, and the attributes and slots of any other
object (a dataclass, frozen or not, DETR's NestedTensor, a batch of graphs, a distribution). Modules, classes and
functions are not data, and are passed by. The caches that Hugging Face models return are states and no outputs: what
they hold follows a cut, so `tensors_in` passes them by.
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
    """The tensors in a value, in order; objects that are met again are passed by.

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
    """Whether tensors may be inside: not so for numbers, strings, arrays, modules, classes and functions."""
    return not isinstance(value, (*PLAIN, *NO_DATA, np.ndarray, np.generic))


def is_cache(value: Any) -> bool:
    """Whether this is what Hugging Face models keep keys and values in from call to call."""
    return any(kind.__name__ == "Cache" and kind.__module__.startswith("transformers.") for kind in type(value).__mro__)


def _parts(value: Any) -> dict[Any, Any]:
    """What an object holds: the entries of a mapping, the attributes and filled slots of any other."""
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
    """The same value with every tensor changed. Objects that hold some are copied, and stay as they are.

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
            object.__setattr__(new, name, other)  # slots, also of frozen classes
    return new


__all__ = ["changed", "is_cache", "is_object", "tensors_in"]
