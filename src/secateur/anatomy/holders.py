"""The places where a model keeps its integers: modules, and the plain objects and dicts that modules hold.

A config that all layers share is one holder, under the name of the first module that leads to it. Holders are read and
written without `__getattribute__` and `__setattr__`: none of their code runs, and frozen ones can be written too. A
subclass of dict may hold a value as an item, as an attribute or as both; both are read and written as one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from enum import Enum
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import nn

from secateur.base.names import DEPTH, is_public

_CLOSED = (nn.Module, torch.Tensor, Enum, type, int, float, complex, str, bytes, tuple, list, set, frozenset)
_PROPERTIES = {"_internal_dict": "config"}  # where classes of diffusers hold what their property `config` returns
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: the class was made by a class statement, or as if it were


class Holder(NamedTuple):
    """A module, or an object below it; `path` is "" or the dotted name of the object from the module on."""

    module: str
    path: str
    owner: Any

    def name(self, leaf: str) -> str:
        """Return the dotted name of an attribute, from the module on."""
        return f"{self.path}.{leaf}" if self.path else leaf


def holders(model: nn.Module) -> Iterator[Holder]:
    """Yield every module, and every plain object or dict that modules hold under public names, each once."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        holder = Holder(path, "", module)
        yield holder
        yield from _below(holder, seen, DEPTH)


def below(owner: Any) -> Iterator[Any]:
    """Yield a plain object, and those that it holds."""
    yield owner
    yield from (holder.owner for holder in _below(Holder("", "", owner), {id(owner)}, DEPTH - 1))


def _below(holder: Holder, seen: set[int], depth: int) -> Iterator[Holder]:
    for name, value in list(_named(holder.owner).items()):
        if is_public(name) and _is_open(value) and id(value) not in seen:
            seen.add(id(value))
            below = Holder(holder.module, holder.name(name), value)
            yield below
            if depth > 1:
                yield from _below(below, seen, depth - 1)


def _named(owner: Any) -> dict[str, Any]:
    """Return what `values` returns, with what properties return under the names of these."""
    table = values(owner)
    found = {new: table[old] for old, new in _PROPERTIES.items() if old in table}
    return {**table, **{n: v for n, v in found.items() if isinstance(getattr(type(owner), n, None), property)}}


def _is_open(value: Any) -> bool:
    kind = type(value)
    if kind is dict or kind is SimpleNamespace:
        return True
    made = bool(kind.__flags__ & _HEAP_TYPE) and not isinstance(value, _CLOSED)
    return made and kind.__module__.partition(".")[0] != "torch"


def has_attributes(value: Any) -> bool:
    """Return whether a value is an instance of a Python class with attributes, other than a module or tensor."""
    made = bool(type(value).__flags__ & _HEAP_TYPE) and not isinstance(value, _CLOSED)
    return (made or type(value) is SimpleNamespace) and bool(values(value))


def values(owner: Any) -> dict[str, Any]:
    """Return the attributes of an object itself, slots included, or the items of a dict."""
    if type(owner) is dict:
        return owner
    table = _table(owner)
    if isinstance(owner, dict):
        return _agreeing(owner, table or {})
    return table if table is not None else dict(_slots(owner))


def _agreeing(items: dict[Any, Any], table: dict[str, Any]) -> dict[str, Any]:
    """Return the items and the attributes of a dict, without those of one name that are two objects."""
    own = {name: value for name, value in dict.items(items) if isinstance(name, str)}
    agree = {name: value for name, value in own.items() if name not in table or table[name] is value}
    return {**agree, **{name: value for name, value in table.items() if name not in own}}


def assign(owner: Any, name: str, value: Any) -> None:
    """Set an attribute that `values` returns."""
    table = _table(owner)
    if isinstance(owner, dict):
        _assign_item(owner, table or {}, name, value)
    elif table is not None:
        table[name] = value
    else:
        object.__setattr__(owner, name, value)


def _assign_item(owner: dict[str, Any], table: dict[str, Any], name: str, value: Any) -> None:
    """Set an item, an attribute or both, without the methods of a subclass, which may refuse."""
    if dict.__contains__(owner, name) or name not in table:
        kind: Any = OrderedDict if isinstance(owner, OrderedDict) else dict
        kind.__setitem__(owner, name, value)
    if name in table:
        table[name] = value


def put_at(owner: Any, name: str, index: int | None, value: Any) -> None:
    """Set an attribute that `values` returns, or one entry of it if it is a tuple or list."""
    if index is not None:
        old = values(owner)[name]
        value = type(old)([*old[:index], value, *old[index + 1 :]])
    assign(owner, name, value)


def remove(owner: Any, name: str) -> None:
    """Delete an attribute that `values` returns."""
    table = owner if type(owner) is dict else _table(owner)
    if table is not None:
        del table[name]
    else:
        object.__delattr__(owner, name)


def _table(owner: Any) -> dict[str, Any] | None:
    try:
        return object.__getattribute__(owner, "__dict__")
    except AttributeError:
        return None


def _slots(owner: Any) -> Iterator[tuple[str, Any]]:
    for kind in type(owner).__mro__:
        names = vars(kind).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name == "__weakref__":  # which holds no value of the object, and cannot be set
                continue
            try:
                yield name, object.__getattribute__(owner, name)
            except AttributeError:  # a slot that is empty
                continue


def owner_of(module: nn.Module, dotted: str) -> tuple[Any, str] | None:
    """Return the object that holds the attribute of a dotted name, and the name there; None where there is none.

    >>> owner_of(nn.Linear(2, 3), "out_features")
    (Linear(in_features=2, out_features=3, bias=True), 'out_features')
    """
    *way, leaf = dotted.split(".")
    owner: Any = module
    for name in way:
        owner = _named(owner).get(name)
        if not _is_open(owner) or not is_public(name):
            return None
    return (owner, leaf) if leaf in values(owner) else None
