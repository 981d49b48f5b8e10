"""Tensors of the model that a run computes with, and the values they had before `forward` wrote to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from secateur.base.nested import tensors_in


class Lent:
    """The tensors that stand-ins share their storage with. What is about to be written to is saved first."""

    def __init__(self, tensors: Iterable[torch.Tensor]):
        self._lent = {tensor.untyped_storage()._cdata: tensor for tensor in tensors}
        self._saved: dict[int, torch.Tensor] = {}

    @staticmethod
    def of(model: nn.Module) -> Lent:
        """All that a model holds: parameters, buffers, and tensors in attributes, containers and objects."""
        return Lent(t for module in model.modules() for value in vars(module).values() for t in tensors_in(value))

    def save(self, args: Sequence[Any]) -> None:
        """Save those among the arguments of an op that writes, once each."""
        for value in args:
            for tensor in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(tensor, torch.Tensor):
                    self._save(tensor.untyped_storage()._cdata)

    def _save(self, storage: int) -> None:
        if storage in self._lent and storage not in self._saved:
            self._saved[storage] = self._lent[storage].detach().clone()

    @contextmanager
    def lending(self) -> Iterator[None]:
        """Within, the tensors may be written to; then they get their values back."""
        try:
            yield
        finally:
            with torch.no_grad():
                for storage, values in self._saved.items():
                    self._lent[storage].copy_(values)
