"""Containers that `forward` fills with tensors, such as a table of attention biases by device.

Their tensors were computed from parameters, which a cut changes. So the containers must be emptied, for `forward` to
fill them again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn

from secateur.base.nested import tensors_in
from secateur.plan.parts import Cache

Container: TypeAlias = "dict[Any, Any] | list[Any]"

_OWN = frozenset(vars(nn.Module()))


def contents(model: nn.Module) -> dict[Cache, Container]:
    """Return the content of every container of a model."""
    return {
        cache: dict(container) if isinstance(container, dict) else list(container)
        for cache, container in _containers(model)
    }


def filled(model: nn.Module, before: Mapping[Cache, Container]) -> list[Cache]:
    """Return the caches that `forward` added tensors to, not those of which it only replaced entries."""
    return [cache for cache, now in _containers(model) if _gained(now, before.get(cache, {}))]


def forget(model: nn.Module, caches: Iterable[Cache]) -> None:
    """Remove the tensors from caches; other entries stay."""
    wanted = set(caches)
    for cache, container in _containers(model) if wanted else ():
        if cache in wanted:
            _empty(container)


def left_out(model: nn.Module, caches: Iterable[Cache]) -> dict[int, torch.Tensor]:
    """Return a memo for `deepcopy` that leaves out the tensors of caches, which may be part of an autograd graph."""
    wanted = set(caches)
    held = (container for cache, container in _containers(model) if cache in wanted) if wanted else ()
    return {id(tensor): torch.empty(0) for container in held for tensor in tensors_in(_entries(container))}


def _containers(model: nn.Module) -> Iterator[tuple[Cache, Container]]:
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name not in _OWN and isinstance(value, (dict, list)):
                yield Cache(path, name), value


def _gained(now: Container, before: Container) -> bool:
    """Return whether a list without tensors has some now, or a dict has new entries and its old ones are unchanged."""
    if isinstance(now, list) or isinstance(before, list):
        return bool(tensors_in(_entries(now))) and not tensors_in(_entries(before))
    untouched = all(now.get(key) is value for key, value in before.items())
    return untouched and any(tensors_in(value) for key, value in now.items() if key not in before)


def _entries(container: Container) -> list[Any]:
    return list(container.values() if isinstance(container, dict) else container)


def _empty(container: Container) -> None:
    if isinstance(container, dict):
        for key in [key for key, value in container.items() if tensors_in(value)]:
            del container[key]
    else:
        container[:] = [value for value in container if not tensors_in(value)]
