"""Every place in a model that holds a tensor, by name."""

from __future__ import annotations

from collections.abc import Iterator
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
        """The same for the several names of one place (a module that is used twice)."""
        return id(self.table), self.leaf


def slots(model: nn.Module) -> Iterator[Slot]:
    """Every parameter, buffer and plain tensor attribute of a model, shared ones under each of their names."""
    for path, module in model.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        lost = module._non_persistent_buffers_set
        for table in (module._parameters, module._buffers, module.__dict__):
            for leaf, value in table.items():
                if isinstance(value, torch.Tensor):
                    yield Slot(prefix + leaf, table, leaf, table is not module.__dict__ and leaf not in lost)
