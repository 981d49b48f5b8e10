"""What a recorded call holds in memory, and how long: the storages that its ops make, born one after the other.

Views and in-place ops make none. What held a storage is not kept alive; that it is gone is seen when the next one is
born, which is all that matters for the greatest sum of what lives at one time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from secateur.terms import Term
from secateur.trace.typed import get


@dataclass(slots=True)
class LiveStorage:
    """A storage of `coefficient` bytes times the sizes of the terms. `gone`: how many were born before it was gone."""

    coefficient: int
    terms: tuple[Term, ...]
    gone: int | None = None


class Life:
    """Storages in the order of their birth."""

    def __init__(self) -> None:
        self.held: list[LiveStorage] = []
        self._known: set[int] = set()
        self._constants: list[StorageWeakRef] = []  # lest another storage get the id of one
        self._alive: dict[int, tuple[LiveStorage, StorageWeakRef]] = {}

    def keep(self, tensors: Iterable[torch.Tensor]) -> None:
        """Tensors that are there before and after: no storage of theirs is ever born."""
        self._known.update(tensor.untyped_storage()._cdata for tensor in tensors)

    def note(self, given: Iterable[torch.Tensor], operands: Callable[[], Sequence[torch.Tensor]] = tuple) -> None:
        """An op has given these, with what was alive during it still alive. What views a constant is none of its."""
        for tensor in given:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key in self._known or key in self._alive:
                continue
            if any(operand.untyped_storage()._cdata == key for operand in operands()):
                self._known.add(key)
                self._constants.append(StorageWeakRef(storage))
                continue
            self._bury()
            made = _held(tensor, storage.nbytes())
            self.held.append(made)
            self._alive[key] = made, StorageWeakRef(storage)

    def retyped(self, tensor: torch.Tensor) -> None:
        """More is known of the dimensions of a tensor that an op just gave."""
        storage = tensor.untyped_storage()
        if storage._cdata in self._alive:
            held, new = self._alive[storage._cdata][0], _held(tensor, storage.nbytes())
            held.coefficient, held.terms = new.coefficient, new.terms

    def _bury(self) -> None:
        gone = [key for key, (_, ref) in self._alive.items() if ref.expired()]
        for key in gone:  # only now may another storage get this key
            self._alive.pop(key)[0].gone = len(self.held)


def _held(tensor: torch.Tensor, size: int) -> LiveStorage:
    typed, count = get(tensor), tensor.numel()
    if typed is None or not count or size % count:
        return LiveStorage(size, ())
    return LiveStorage(size // count, tuple(typed.counted()))


__all__ = ["Life", "LiveStorage"]
