"""The places in a model that hold a tensor, by name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a model that holds a tensor. `persistent`: it is part of the state dict."""

    name: str
    table: dict[str, Any]
    leaf: str
    persistent: bool

    @property
    def tensor(self) -> torch.Tensor:
        return self.table[self.leaf]

    @property
    def place(self) -> tuple[int, str]:
        """A key that is equal for all names of one place (a module that is used twice)."""
        return id(self.table), self.leaf


def slots(model: nn.Module) -> Iterator[Slot]:
    """Yield every parameter, buffer and tensor attribute of a model, shared ones under each of their names."""
    for path, module in model.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        lost = module._non_persistent_buffers_set
        for table in (module._parameters, module._buffers, module.__dict__):
            for leaf, value in table.items():
                if isinstance(value, torch.Tensor):
                    yield Slot(prefix + leaf, table, leaf, table is not module.__dict__ and leaf not in lost)


def replace_held(model: nn.Module, new: Mapping[int, torch.Tensor]) -> None:
    """Replace tensors, by the id of the old ones, in the lists, tuples and dicts in which modules keep tensors.

    `nn.LSTM` holds its weights a second time in such a list. A container that changes is replaced by a new one.
    """
    for module in model.modules():
        replace_in(module, new, but=("_parameters", "_buffers", "_modules"))


def replace_in(owner: object, new: Mapping[int, torch.Tensor], but: Collection[str] = ()) -> None:
    """Replace tensors in the attributes of one object, except those named in `but`."""
    table = vars(owner)
    for name, value in list(table.items()):
        if name not in but and _may_hold(value):
            changed = swapped(value, new, NESTED)
            if changed is not value:
                table[name] = changed


def _may_hold(value: Any) -> bool:
    """Return whether a value may hold a tensor; most values are numbers and empty tables of hooks."""
    return isinstance(value, torch.Tensor) or (type(value) in (dict, list, tuple) and len(value) > 0)


NESTED = 3  # containers in containers in containers


def swapped(value: Any, new: Mapping[int, torch.Tensor], depth: int) -> Any:
    """Return the new tensor, a container with new tensors, or the value itself if it holds none of the old ones."""
    if isinstance(value, torch.Tensor):
        return new.get(id(value), value)
    if not depth or type(value) not in (dict, list, tuple):
        return value
    held = list(value.values() if type(value) is dict else value)
    made = [swapped(item, new, depth - 1) for item in held]
    if all(a is b for a, b in zip(made, held, strict=True)):
        return value
    return dict(zip(value, made, strict=True)) if type(value) is dict else type(value)(made)
