"""Restores the tensors of a model that `forward` wrote or assigned to during a run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from secateur.anatomy.keeping import TABLES
from secateur.base.nested import PLAIN, tensors_in

_AUTOGRAD: Any = vars(torch._C)["_autograd"]


class _Found(NamedTuple):
    """A tensor of the model, another tensor with the same memory, and its version before the run."""

    tensor: Tensor
    shown: Tensor
    version: int | None  # None: tensors created in inference mode have no version

    @staticmethod
    def of(tensor: Tensor) -> _Found:
        return _Found(tensor, tensor.data, _version(tensor))

    def restore(self) -> None:
        """Restore the memory and the version of the tensor, whose values a pending autograd graph may still read."""
        if _view(self.tensor) != _view(self.shown):
            self.tensor.data = self.shown
        if self.version is not None and _version(self.tensor) != self.version:
            _AUTOGRAD._unsafe_set_version_counter((self.tensor,), (self.version,))


class Lent:
    """The tensors that stand-ins share their storage with. Their values are saved before the first write."""

    def __init__(self, tensors: Iterable[Tensor]):
        self._found = [_Found.of(tensor) for tensor in {id(tensor): tensor for tensor in tensors}.values()]
        self._lent: dict[int, list[Tensor]] = {}  # the tensors in each storage
        for found in self._found:
            for part in _parts(found.shown):
                self._lent.setdefault(part.untyped_storage()._cdata, []).append(part)
        self._saved: dict[int, tuple[Tensor, Tensor]] = {}  # bytes of a part and their saved values, by its id

    @staticmethod
    def of(model: nn.Module) -> Lent:
        """Return the tensors of a model: parameters, buffers, and tensors in attributes, containers and objects."""
        return Lent(tensor for module in model.modules() for tensor in _held(module))

    def lends(self, tensor: Tensor) -> bool:
        """Return whether a tensor uses memory of the model."""
        return any(part.untyped_storage()._cdata in self._lent for part in _parts(tensor))

    def save(self, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Save the tensors that an op is about to write to, once each."""
        for place, name in _written(op):
            value = args[place] if place < len(args) else kwargs.get(name)
            for tensor in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(tensor, Tensor):
                    self._save(tensor)

    def _save(self, written: Tensor) -> None:
        for target in _parts(written):
            for part in self._lent.get(target.untyped_storage()._cdata, ()):
                if id(part) not in self._saved and _overlap(part, target):
                    data = _bytes(part)
                    self._saved[id(part)] = data, data.clone()

    @contextmanager
    def lending(self) -> Iterator[None]:
        """Restore the tensors on exit, whatever was written or assigned to them."""
        try:
            yield
        finally:
            with torch.no_grad():
                for data, values in self._saved.values():
                    data.copy_(values)
                for found in self._found:
                    found.restore()


def _held(module: nn.Module) -> Iterator[Tensor]:
    for table in (module._parameters, module._buffers):
        yield from (tensor for tensor in table.values() if tensor is not None)
    for name, value in vars(module).items():
        if name not in TABLES and not _is_plain(value):
            yield from tensors_in(value)


def _is_plain(value: Any) -> bool:
    """Whether a value plainly holds no tensor, as most attributes of modules: numbers, sizes, empty tables of hooks."""
    if type(value) in _CONTAINERS:
        return not value or (type(value) is tuple and all(type(part) in _LEAVES for part in value))
    return type(value) in _LEAVES or isinstance(value, PLAIN)


_CONTAINERS = frozenset({dict, OrderedDict, list, tuple, set})
_LEAVES = frozenset({int, float, bool, str, type(None)})


_STATISTICS = frozenset({"running_mean", "running_var"})
"""Batch norms write to these in training mode, although their schema does not declare it."""


@cache
def _written(op: Any) -> tuple[tuple[int, str], ...]:
    """Return the positions and names of the arguments that an op may write to."""
    return tuple(
        (place, argument.name)
        for place, argument in enumerate(op._schema.arguments)
        if (argument.alias_info is not None and argument.alias_info.is_write) or argument.name in _STATISTICS
    )


_SPARSE = {
    torch.sparse_coo: ("_indices", "_values"),
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
}


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the strided tensors that a tensor consists of: usually itself."""
    if is_traceable_wrapper_subclass(tensor):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _parts(getattr(tensor, name))
    elif tensor.layout == torch.strided:
        yield tensor
    else:
        yield from (getattr(tensor, name)() for name in _SPARSE.get(tensor.layout, ()))


def _view(tensor: Tensor) -> Any:
    """Return how a tensor uses its memory: shape, dtype, and the storage, offset and strides of each part."""
    parts = [(p.untyped_storage()._cdata, p.storage_offset(), p.shape, p.stride()) for p in _parts(tensor)]
    return tensor.shape, tensor.dtype, parts


def _reach(tensor: Tensor) -> tuple[int, int]:
    """Return the first and last byte of its storage that a tensor uses (half-open)."""
    size = tensor.element_size()
    first = int(tensor.storage_offset()) * size
    if not tensor.numel():
        return first, first
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return first, first + (last + 1) * size


def _overlap(a: Tensor, b: Tensor) -> bool:
    (first_a, last_a), (first_b, last_b) = _reach(a), _reach(b)
    return first_a < last_b and first_b < last_a


def _bytes(tensor: Tensor) -> Tensor:
    """Return the bytes of its storage that a tensor spans, without a copy."""
    first, last = _reach(tensor)
    plain = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return plain.set_(tensor.untyped_storage(), first, (last - first,), (1,))


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version
