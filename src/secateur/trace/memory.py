"""The types of the tensors in a trace, by the memory that they use.

Some code creates a tensor without any op: `as_subclass`, `nn.Parameter(activation)`, an exchange format such as DLPack.
Its memory belongs to a tensor whose type is known. If the layout is the same, so is the type. If it is not, the
positions of the units are unknown, so all dimensions of the known tensors in this memory are frozen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from secateur.terms import Reason, freeze
from secateur.trace.typed import Typed, get

Layout: TypeAlias = "tuple[Any, ...]"  # dtype, shape, strides and offset


@dataclass(slots=True)
class _Region:
    """One storage, from address `start` (None on the meta device)."""

    storage: StorageWeakRef  # so that its id is not reused
    start: int | None
    size: int
    types: dict[Layout, Typed] = field(default_factory=dict)


class Memory:
    """The memory of a traced run. It keeps no storage alive."""

    def __init__(self) -> None:
        self._regions: dict[int, _Region] = {}
        self.reduced: list[Typed] = []  # taken apart by `copy` or `pickle`, which rebuild tensors without any op

    def note(self, tensor: torch.Tensor) -> None:
        """Record a tensor whose type was set."""
        typed = get(tensor)
        if typed is None or not has_storage(tensor):
            return
        storage = tensor.untyped_storage()
        region = self._regions.get(storage._cdata)
        if region is None:
            region = _Region(StorageWeakRef(storage), _address(storage), storage.nbytes())
            self._regions[storage._cdata] = region
        region.types[_layout(tensor, int(tensor.storage_offset()) * tensor.element_size())] = typed

    def found(self, tensor: torch.Tensor, why: Reason) -> Typed | None:
        """Return the type of a known tensor with the same memory and layout; else freeze what is in that memory."""
        with torch._C.DisableTorchFunction():
            self._freeze_reduced(tensor, why)
            if not has_storage(tensor):
                return None
            for region, offset in self._places(tensor):
                typed = region.types.get(_layout(tensor, offset))
                if typed is not None:
                    return typed
                for other in region.types.values():
                    for dim in other.found():
                        freeze(dim, why)
        return None

    def _freeze_reduced(self, tensor: torch.Tensor, why: Reason) -> None:
        for typed in self.reduced:
            dims = typed.found()
            if [dim.n for dim in dims] == list(tensor.shape):
                for dim in dims:
                    freeze(dim, why)

    def _places(self, tensor: torch.Tensor) -> Iterator[tuple[_Region, int]]:
        """Yield the storages in which a tensor begins, with its offset in bytes."""
        storage = tensor.untyped_storage()
        region = self._regions.get(storage._cdata)
        if region is not None:
            yield region, int(tensor.storage_offset()) * tensor.element_size()
        elif _address(storage) is not None:
            at = tensor.data_ptr()
            for other in self._regions.values():
                if other.start is not None and 0 <= at - other.start < other.size and not other.storage.expired():
                    yield other, at - other.start


def has_storage(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has one block of memory; sparse and nested tensors consist of several others."""
    return tensor.layout is torch.strided and not tensor.is_nested


def _address(storage: torch.UntypedStorage) -> int | None:
    return None if storage.device.type == "meta" else storage.data_ptr()


def _layout(tensor: torch.Tensor, offset: int) -> Layout:
    return tensor.dtype, tuple(tensor.shape), tensor.stride(), offset


__all__ = ["Memory", "has_storage"]
