"""Running a model with float64 tensors, and restoring its own tensors afterwards.

Small tensors are copied once, large parameters only while an op reads them, and modules not at all: a model that cannot
be copied can still run this way.
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
    """Replace every tensor that the model holds, also in lists, by one that `fill` writes, within this context.

    The new tensors are float64 with `lift`, else of the model's own precision. Large parameters are filled when
    they are read, or before the run with `at_once`. `keeping.kept`, which must enclose this, restores the originals.

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
    """Replace every tensor by one that shares its memory, so that an assignment in `forward` does not affect the model.

    In-place writes do affect it, and must be restored.
    """
    _swap(model, lambda old: old.data)


def _swap(model: nn.Module, make: Callable[[Tensor], Tensor]) -> None:
    made: dict[int, Tensor] = {}
    places = [(slot, slot.tensor) for slot in slots(model)]  # before any place changes; one may have several names
    for slot, old in places:
        if id(old) not in made:
            made[id(old)] = _of_kind(old, make(old))
        if type(slot.table) is dict:  # else a scripted module holds it, and it is lifted where an op reads it
            slot.table[slot.leaf] = made[id(old)]
    replace_held(model, made)


def _filled(old: Tensor, dtype: torch.dtype, fill: Fill) -> Tensor:
    plain = type(old) in (Tensor, nn.Parameter) and old.layout == torch.strided
    new = torch.empty_like(old.detach(), dtype=dtype) if plain else old.detach().to(dtype, copy=True)
    fill(old, new)
    return new


def _of_kind(old: Tensor, new: Tensor) -> Tensor:
    """Return the new tensor as a parameter of the same class and attributes if the old one was a parameter."""
    if not isinstance(old, nn.Parameter):
        return new
    learns = old.requires_grad and not new.is_inference()  # inference tensors cannot require gradients
    parameter = new if isinstance(new, nn.Parameter) else nn.Parameter(new, learns)
    parameter.__class__ = type(old)
    vars(parameter).update(vars(old))
    return parameter
