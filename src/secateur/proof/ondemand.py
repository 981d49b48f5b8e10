"""Large parameters that hold their values only while an op reads them, in memory that they share in turn.

A stand-in without memory replaces the parameter. It is filled for each torch function that receives it, and emptied
afterwards, or as soon as no result shares its memory. It stays filled if the function wrote or assigned to it, or if it
is read often. Code that reads a stand-in without a torch function shows in the ops below, which receive an empty one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from secateur.base.modes import UncompiledMode, unseen

Fill: TypeAlias = Callable[[Tensor, Tensor], object]
"""A function that writes to the second tensor what replaces the first, which is the model's own."""
Kind: TypeAlias = "tuple[torch.dtype, torch.device]"

LARGE = 2**16
"""Parameters of fewer elements are filled once: that takes less time, and little memory."""
OFTEN = 2
"""A parameter that is read this often in one run, such as that of a layer within a loop, stays filled."""

# Functions that do not read the values of a tensor.
_ASKED = frozenset(
    {
        *(getattr(Tensor, name).__get__ for name in "shape dtype device ndim requires_grad is_leaf grad".split()),
        *(getattr(Tensor, name) for name in "size dim numel __len__ is_floating_point is_complex __hash__".split()),
    }
)
_NUMBERS = (int, float, complex, str, torch.dtype, torch.device, type(None))


class UnfilledRead(Exception):
    """Raised where something read a stand-in that was not filled."""


class _Shown(NamedTuple):
    """Memory that results share, the stand-ins that hold it, and their state at the time."""

    memory: dict[Kind, Tensor]
    by: list[nn.Parameter]
    looks: list[Any]

    @property
    def over(self) -> bool:
        """Whether no result is left, and no stand-in was written or assigned to."""
        unused = all(_uses(memory) <= 1 + len(self.by) for memory in self.memory.values())
        return unused and _looks(self.by) == self.looks


class OnDemand:
    """Stand-ins for the large parameters of one run; `fill` writes their values."""

    def __init__(self, fill: Fill):
        self.fill = fill
        self.missed = False
        self._of: dict[
            int, tuple[nn.Parameter, Tensor]
        ] = {}  # the stand-in and its parameter, by the id of the stand-in
        self._filled: set[int] = set()
        self._times: Counter[int] = Counter()
        self._blank: dict[Kind, Tensor] = {}  # one element, which all empty stand-ins expand
        self._memory: dict[Kind, Tensor] = {}
        self._shown: list[_Shown] = []

    def stand_in(self, tensor: Tensor, dtype: torch.dtype) -> nn.Parameter | None:
        """Return a parameter without values, or None where one with values is better."""
        plain = type(tensor) is nn.Parameter and tensor.layout == torch.strided and tensor.is_contiguous()
        if not plain or tensor.numel() < LARGE or not dtype.is_floating_point:
            return None
        made = nn.Parameter(self._emptied(tensor, dtype), tensor.requires_grad)
        self._of[id(made)] = made, tensor
        return made

    @contextmanager
    def running(self) -> Iterator[None]:
        """Fill stand-ins where they are read, within this context. Raises `UnfilledRead` where one was not filled."""
        if not self._of:
            yield
            return
        with _Functions(self), _Ops(self):
            try:
                yield
            except Exception:
                if not self.missed:
                    raise
        if self.missed:  # also where the model caught it, or raised another exception from it
            raise UnfilledRead

    def run(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run a torch function with the stand-ins among its arguments filled."""
        found = list({id(one): one for one in self._among((*args, *kwargs.values()))}.values())
        if not found or func in _ASKED:
            return func(*args, **kwargs)
        with unseen():
            self._fill(found)
            looks = _looks(found)
        written = shown = True
        try:
            out = func(*args, **kwargs)
            with unseen():
                written = looks != _looks(found)
                shown = self._shows(out)
            return out
        finally:
            with unseen():
                self._release(found, written=written, shown=shown)

    def _among(self, values: Any) -> Iterator[nn.Parameter]:
        for value in values:
            if type(value) is nn.Parameter:
                if id(value) in self._of and id(value) not in self._filled and self._is_empty(value):
                    yield value
            elif isinstance(value, (tuple, list)):
                yield from self._among(value)

    def _fill(self, found: list[nn.Parameter]) -> None:
        self._reclaim()
        ends: Counter[Kind] = Counter()
        for one in found:
            ends[one.dtype, one.device] += one.numel()
        for key, size in ends.items():
            if key not in self._memory or len(self._memory[key]) < size:
                self._memory[key] = torch.empty(size, dtype=key[0], device=key[1])
        for one in found:
            key, tensor = (one.dtype, one.device), self._of[id(one)][1]
            ends[key] -= one.numel()
            one.data = self._memory[key][ends[key] :][: one.numel()].view(one.shape)
            self.fill(tensor, one.data)

    def _release(self, found: list[nn.Parameter], *, written: bool, shown: bool) -> None:
        self._times.update(map(id, found))
        stays = written or any(self._times[id(one)] >= OFTEN for one in found)
        if not stays and not shown:
            self._empty(found)
            return
        self._filled.update(map(id, found))
        memory = {kind: self._memory.pop(kind) for kind in {(one.dtype, one.device) for one in found}}
        if not stays:
            self._shown.append(_Shown(memory, found, _looks(found)))

    def _reclaim(self) -> None:
        """Take back memory that no result shares any more."""
        held, self._shown = self._shown, []
        for shown in held:
            if not shown.over:
                self._shown.append(shown)
                continue
            self._empty(shown.by)
            self._filled.difference_update(map(id, shown.by))
            self._memory.update(shown.memory)

    def _empty(self, found: list[nn.Parameter]) -> None:
        for one in found:
            one.data = self._emptied(one, one.dtype)

    def _emptied(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        key = dtype, tensor.device
        if key not in self._blank:
            self._blank[key] = torch.full((), torch.nan, dtype=dtype, device=tensor.device)
        return self._blank[key].expand(tensor.shape)

    def _shows(self, out: Any) -> bool:
        """Return whether a result may share memory with a filled stand-in."""
        if isinstance(out, (tuple, list)):
            return any(map(self._shows, out))
        if type(out) is not Tensor or out.layout != torch.strided:
            return not isinstance(out, _NUMBERS)
        return out.untyped_storage()._cdata in {m.untyped_storage()._cdata for m in self._memory.values()}

    def check(self, values: Any) -> None:
        """Raise `UnfilledRead` where an op receives an empty stand-in, or a view of one."""
        for value in values:
            if isinstance(value, (tuple, list)):
                self.check(value)
            elif isinstance(value, Tensor) and value.layout == torch.strided and self._is_empty(value):
                self.missed = True
                raise UnfilledRead

    def _is_empty(self, tensor: Tensor) -> bool:
        """Return whether a tensor is a stand-in without values, or a view of one."""
        storage = tensor.untyped_storage()._cdata
        return any(storage == blank.untyped_storage()._cdata for blank in self._blank.values())


def _looks(found: list[nn.Parameter]) -> list[Any]:
    """Return the version of stand-ins, which counts writes, and their memory, which `forward` may replace."""
    return [(one._version, one.data_ptr(), one.shape, one.stride()) for one in found]


def _uses(tensor: Tensor) -> int:
    """Return how many tensors share its memory, including itself."""
    storage = tensor.untyped_storage()
    return torch._C._storage_Use_Count(storage._cdata) - 1  # `storage` here is one more


class _Functions(TorchFunctionMode):
    def __init__(self, owner: OnDemand):
        super().__init__()
        self.owner = owner

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.owner.run(func, args, kwargs or {})


class _Ops(UncompiledMode):
    def __init__(self, owner: OnDemand):
        super().__init__()
        self.owner = owner

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.owner.check((*args, *(kwargs or {}).values()))
        return func(*args, **(kwargs or {}))
