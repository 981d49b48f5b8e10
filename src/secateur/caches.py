"""Containers that `forward` fills with tensors, such as a table of attention biases by device.

What they hold was computed from parameters. A cut changes those, so the containers must be emptied: `forward` fills
them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from .calls import tensors_in

_OWN = frozenset(vars(nn.Module()))


class Cache(NamedTuple):
    """A dict or list that a module holds under a name of its own."""

    module: str
    name: str


def contents(model: nn.Module) -> dict[Cache, list[Any]]:
    """What every container of a model holds."""
    return {cache: _entries(container) for cache, container in _containers(model)}


def filled(model: nn.Module, before: Mapping[Cache, list[Any]]) -> list[Cache]:
    """The caches that hold a tensor which was not among their contents `before`."""
    return [cache for cache, entries in contents(model).items() if _gained(entries, before.get(cache, ()))]


def forget(model: nn.Module, caches: Iterable[Cache]) -> None:
    """Take the tensors out of caches; what else they hold stays."""
    wanted = set(caches)
    for cache, container in _containers(model) if wanted else ():
        if cache in wanted:
            _empty(container)


def left_out(model: nn.Module, caches: Iterable[Cache]) -> dict[int, torch.Tensor]:
    """For `deepcopy`: nothing in place of what caches hold, which may be part of an autograd graph."""
    wanted = set(caches)
    held = (container for cache, container in _containers(model) if cache in wanted) if wanted else ()
    return {id(tensor): torch.empty(0) for container in held for tensor in tensors_in(_entries(container))}


def _containers(model: nn.Module) -> Iterator[tuple[Cache, dict[Any, Any] | list[Any]]]:
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name not in _OWN and isinstance(value, (dict, list)):
                yield Cache(path, name), value


def _gained(entries: Iterable[Any], before: Iterable[Any]) -> bool:
    old = set(map(id, before))
    return any(id(entry) not in old and tensors_in(entry) for entry in entries)


def _entries(container: Any) -> list[Any]:
    return list(container.values() if isinstance(container, dict) else container)


def _empty(container: dict[Any, Any] | list[Any]) -> None:
    if isinstance(container, dict):
        for key in [key for key, value in container.items() if tensors_in(value)]:
            del container[key]
    else:
        container[:] = [value for value in container if not tensors_in(value)]
