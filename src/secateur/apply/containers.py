"""Copies containers whose classes refuse writing: configs that are locked once they are made.

`deepcopy` fills the copy of a dict or a list by the methods of its class. Where a class replaces these methods, the
copy is filled by those of the built-in type.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any

_FILL: dict[type, tuple[str, Callable[[Any, Any], Any]]] = {
    OrderedDict: ("__setitem__", lambda made, item: OrderedDict.__setitem__(made, *item)),
    dict: ("__setitem__", lambda made, item: dict.__setitem__(made, *item)),
    list: ("append extend", list.append),
    set: ("add", set.add),
    deque: ("append extend", deque.append),
}
"""The methods that `deepcopy` fills a container with, and the one that adds an item whatever a subclass says."""


def copy_guarded(containers: Iterable[Any], memo: dict[int, Any]) -> None:
    """Copy the containers that write by methods of their own, and note the copies in the memo of a `deepcopy`."""
    for old in containers:
        base: Any = next((kind for kind in _FILL if isinstance(old, kind)), None)
        if base is not None and id(old) not in memo and _is_guarded(type(old), base):
            made = memo[id(old)] = base.__new__(type(old))
            vars(made).update(copy.deepcopy(vars(old), memo))
            for item in list(old.items()) if isinstance(old, dict) else list(old):
                _FILL[base][1](made, copy.deepcopy(item, memo))


def _is_guarded(kind: type, base: type) -> bool:
    """Whether a class writes items by methods of its own, and does not say how it is copied."""
    says = any(getattr(kind, name) is not getattr(base, name) for name in ("__reduce__", "__reduce_ex__"))
    writes = any(getattr(kind, name) is not getattr(base, name) for name in _FILL[base][0].split())
    return writes and not says and not hasattr(kind, "__deepcopy__") and hasattr(kind, "__dict__")
