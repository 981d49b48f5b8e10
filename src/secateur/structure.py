"""What two models have beside the numbers in their tensors: modules, shapes and integers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from torch import nn

from .holders import holders, is_public, values


def difference(model: nn.Module, wanted: nn.Module) -> str | None:
    """The first thing in which `model` is not built like `wanted`; None where nothing but weights differs.

    Kinds of modules, names and shapes of tensors, and public integers, alone or in tuples and lists.

    >>> difference(nn.Linear(3, 2), nn.Linear(4, 2))
    'the shape of weight is (2, 3), the plan gives (2, 4)'
    """
    for of in (_kinds, _shapes, _integers):
        have, want = dict(of(model)), dict(of(wanted))
        if of is _integers:
            have = {name: value for name, value in have.items() if name in want}  # a `forward` may count its calls
        for name in {**want, **have}:
            if have.get(name) != want.get(name):
                return f"{name} is {have.get(name, 'missing')}, the plan gives {want.get(name, 'none')}"
    return None


def _kinds(model: nn.Module) -> Iterator[tuple[str, str]]:
    return ((f"module {name!r}", type(module).__name__) for name, module in model.named_modules())


def _shapes(model: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    tensors = chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
    return ((f"the shape of {name}", tuple(tensor.shape)) for name, tensor in tensors)


def _integers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for holder in holders(model):
        for leaf, value in values(holder.owner).items():
            if is_public(leaf) and (type(value) is int or _are_integers(value)):
                yield f"{holder.module}.{holder.name(leaf)}".lstrip("."), value


def _are_integers(value: Any) -> bool:
    return type(value) in (tuple, list) and bool(value) and all(type(item) is int for item in value)
