"""The storages that the ops of a recorded call allocate, and how long they live.

Views and in-place ops allocate none. No storage is kept alive; that one was freed is noticed at the next allocation,
which suffices to find the peak memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from secateur.terms import Term
from secateur.trace.memory import has_storage
from secateur.trace.typed import get


@dataclass(slots=True)
class LiveStorage:
    """A storage of `coefficient` bytes times the sizes of the terms. `gone`: the number of allocations when freed."""

    coefficient: int
    terms: tuple[Term, ...]
    gone: int | None = None


class Life:
    """The storages in the order of their allocation."""

    def __init__(self) -> None:
        self.held: list[LiveStorage] = []
        self._known: set[int] = set()
        self._constants: list[StorageWeakRef] = []  # so that their ids are not reused
        self._alive: dict[int, tuple[LiveStorage, StorageWeakRef]] = {}

    def keep(self, tensors: Iterable[torch.Tensor]) -> None:
        """Ignore the storages of these tensors, which exist before and after the call."""
        self._known.update(tensor.untyped_storage()._cdata for tensor in tensors if has_storage(tensor))

    def note(self, given: Iterable[torch.Tensor], operands: Callable[[], Sequence[torch.Tensor]] = tuple) -> None:
        """Record the results of an op while its operands are still alive. Views of constants are ignored."""
        for tensor in filter(has_storage, given):
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key in self._known or key in self._alive:
                continue
            if any(operand.untyped_storage()._cdata == key for operand in filter(has_storage, operands())):
                self._known.add(key)
                self._constants.append(StorageWeakRef(storage))
                continue
            self._drop_freed()
            made = _held(tensor, storage.nbytes())
            self.held.append(made)
            self._alive[key] = made, StorageWeakRef(storage)

    def retyped(self, tensor: torch.Tensor) -> None:
        """Update the size of the result of the last op, whose terms have changed."""
        storage = tensor.untyped_storage()
        if storage._cdata in self._alive:
            held, new = self._alive[storage._cdata][0], _held(tensor, storage.nbytes())
            held.coefficient, held.terms = new.coefficient, new.terms

    def _drop_freed(self) -> None:
        gone = [key for key, (_, ref) in self._alive.items() if ref.expired()]
        for key in gone:  # from now on another storage may get this key
            self._alive.pop(key)[0].gone = len(self.held)


def _held(tensor: torch.Tensor, size: int) -> LiveStorage:
    typed, count = get(tensor), tensor.numel()
    if typed is None or not count or size % count:
        return LiveStorage(size, ())
    return LiveStorage(size // count, tuple(typed.counted()))


__all__ = ["Life", "LiveStorage"]
