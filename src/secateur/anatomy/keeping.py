"""Restoring a model after a run: attributes, modes, tables of tensors and modules, caches, random state."""

from __future__ import annotations

import types
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from secateur.anatomy.caches import forget
from secateur.anatomy.holders import assign, has_attributes, remove, values
from secateur.anatomy.parts import parts
from secateur.base.process import same_random_numbers
from secateur.plan.parts import Cache


@contextmanager
def kept(model: nn.Module) -> Iterator[None]:
    """Restore, on exit, the content of modules and of the containers and objects that they lead to."""
    dicts = [(module, dict(module.__dict__)) for module in model.modules()]
    content = [(one, _content(one)) for one in held(table for _, table in dicts)]
    with same_random_numbers(_devices(model)):
        try:
            yield
        finally:
            for module, table in dicts:
                module.__dict__.clear()
                module.__dict__.update(table)
            for one, was in content:
                _restore(one, was)


@contextmanager
def emptied(model: nn.Module, caches: Iterable[Cache]) -> Iterator[None]:
    """Empty these caches of a model within this context."""
    with kept(model):
        forget(model, caches)
        yield


_CONTAINERS = (dict, list, set, deque)
TABLES = frozenset({"_parameters", "_buffers", "_modules"})  # lead to modules and tensors only


def held(tables: Iterable[dict[str, Any]]) -> Iterator[Any]:
    """Yield the containers and objects that modules lead to, each once; also through closures of their hooks."""
    seen: set[int] = set()
    for table in tables:
        for name, value in table.items():
            if type(value) in _PLAIN or name.startswith("_secateur_"):  # the plans that a model was cut by
                continue
            if type(value) in _TABLES_OF_HOOKS and not value:  # most are empty
                yield value
            elif name not in TABLES:
                yield from _within(value, seen, DEPTH)
            elif isinstance(value, dict):  # scripted modules have other tables
                yield value


def _within(value: Any, seen: set[int], depth: int) -> Iterator[Any]:
    if type(value) in _PLAIN or id(value) in seen:
        return
    if isinstance(value, _CONTAINERS):
        yield value
        if attributes := getattr(value, "__dict__", None):  # of an instance of a subclass
            yield from _within(attributes, seen, depth)
        if not value:  # most are empty
            return
    elif isinstance(value, (torch.Tensor, nn.Module, type)):
        return
    elif has_attributes(value):
        yield value
    seen.add(id(value))
    for part in parts(value) if depth else ():
        yield from _within(part, seen, depth - 1)


_TABLES_OF_HOOKS = (dict, OrderedDict)
_PLAIN = frozenset({int, float, bool, str, bytes, type(None), torch.dtype, torch.device, torch.Size, torch.Tensor})
DEPTH = 6
"""How many levels are followed from an attribute of a module."""


def is_empty(owner: Any) -> bool:
    """Return whether a value is an empty container, as most tables of hooks are."""
    return isinstance(owner, _CONTAINERS) and not owner


def _content(owner: Any) -> Any:
    """Return the content in a plain container, since subclasses may have other constructors. Empty ones share one."""
    if is_empty(owner):
        return _NOTHING
    if isinstance(owner, (list, deque)):
        return list(owner)
    if isinstance(owner, set):
        return set(owner)
    return dict(owner) if isinstance(owner, dict) else dict(values(owner))


_NOTHING: Any = types.MappingProxyType({})


def _restore(owner: Any, was: Any) -> None:
    if isinstance(owner, dict):
        if owner or was:
            _restore_table(owner, was)
    elif isinstance(owner, set):
        if owner != was:
            set.clear(owner)
            set.update(owner, was)
    elif isinstance(owner, (list, deque)):
        if len(owner) != len(was) or any(a is not b for a, b in zip(owner, was, strict=True)):
            kind: Any = list if isinstance(owner, list) else deque
            kind.clear(owner)
            kind.extend(owner, was)
    else:
        for name in [name for name in values(owner) if name not in was]:
            remove(owner, name)
        now = dict(values(owner))
        for name, value in was.items():
            if name not in now or now[name] is not value:
                assign(owner, name, value)


def _restore_table(owner: dict[Any, Any], was: dict[Any, Any]) -> None:
    """Restore a dict without the methods of its subclass, which may refuse."""
    if [*owner] == [*was] and [*map(id, owner.values())] == [*map(id, was.values())]:
        return
    kind: Any = OrderedDict if isinstance(owner, OrderedDict) else dict
    kind.clear(owner)
    for key, value in was.items():
        kind.__setitem__(owner, key, value)


def _devices(model: nn.Module) -> list[torch.device]:
    return list({p.device for p in model.parameters() if p.device.type == "cuda"})


def set_modes(model: nn.Module, training: bool) -> None:
    """Set evaluation mode, or training mode for the modules that may run other code in it.

    The leaf modules of torch (dropout, batch norm) stay in evaluation mode: in training mode they would draw random
    numbers, change statistics and refuse single values, and they run the same ops in both.
    """
    for module in model.modules():
        own_leaf = type(module).__module__.startswith("torch.nn") and not any(True for _ in module.children())
        module.training = training and not own_leaf
