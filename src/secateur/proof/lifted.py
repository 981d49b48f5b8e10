"""The tensors of a model in float64 while it runs, and the model's own put back afterwards.

Of small tensors one copy exists at a time, of large parameters those that an op is reading, and of the modules none:
what cannot be copied can still be run this way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from secateur.anatomy.slots import replace_held, slots
from secateur.base.precision import WIDE
from secateur.proof.ondemand import Fill, OnDemand


def copy(tensor: Tensor, into: Tensor) -> None:
    """Fill a tensor with the values of another."""
    into.copy_(tensor.detach())


@contextmanager
def swapped(model: nn.Module, fill: Fill = copy, *, lift: bool = True, at_once: bool = False) -> Iterator[None]:
    """Within, tensors that `fill` writes stand in every place of the model that holds one, also in lists of them.

    They are float64 with `lift`, else of the model's own precision. Large parameters are filled when they are read, or
    all `at_once`. The places get their own tensors back by `keeping.kept`, which must stand around this.

    Raises `UnfilledRead` where something read a large parameter that was not filled.
    """
    later = OnDemand(fill)

    def made(old: Tensor) -> Tensor:
        dtype = WIDE.get(old.dtype, old.dtype) if lift else old.dtype
        new = None if at_once else later.stand_in(old, dtype)
        return _filled(old, dtype, fill) if new is None else new

    _swap(model, made)
    with later.running():
        yield


def share(model: nn.Module) -> None:
    """The same with tensors that share the memory of the model's own: what `forward` assigns to is never the model's.

    What it writes to is, and must be restored.
    """
    _swap(model, lambda old: old.data)


def _swap(model: nn.Module, make: Callable[[Tensor], Tensor]) -> None:
    made: dict[int, Tensor] = {}
    places = [(slot, slot.tensor) for slot in slots(model)]  # before any place changes, which has several names
    for slot, old in places:
        if id(old) not in made:
            made[id(old)] = _of_kind(old, make(old))
        if type(slot.table) is dict:  # else a script holds it, and it is lifted where an op reads it
            slot.table[slot.leaf] = made[id(old)]
    replace_held(model, made)


def _filled(old: Tensor, dtype: torch.dtype, fill: Fill) -> Tensor:
    plain = type(old) in (Tensor, nn.Parameter) and old.layout == torch.strided
    new = torch.empty_like(old.detach(), dtype=dtype) if plain else old.detach().to(dtype, copy=True)
    fill(old, new)
    return new


def _of_kind(old: Tensor, new: Tensor) -> Tensor:
    """A parameter where there was one, of the same class and with the same attributes."""
    if not isinstance(old, nn.Parameter):
        return new
    learns = old.requires_grad and not new.is_inference()  # which a tensor of inference mode cannot
    parameter = new if isinstance(new, nn.Parameter) else nn.Parameter(new, learns)
    parameter.__class__ = type(old)
    vars(parameter).update(vars(old))
    return parameter
