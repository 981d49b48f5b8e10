"""The tensors of a model in float64 while it runs, and the model's own put back afterwards.

One copy of the tensors exists at a time, and no copy of the modules: what cannot be copied can still be run this way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn

from .slots import replace_held, slots

WIDE = {
    **dict.fromkeys((torch.float32, torch.float16, torch.bfloat16), torch.float64),
    **dict.fromkeys((torch.complex64, torch.complex32), torch.complex128),
}
"""What each lower precision is lifted to."""

Values: TypeAlias = Callable[[Tensor], Tensor]
"""The new tensor for a tensor of the model, never that tensor itself."""


def wide(tensor: Tensor) -> Tensor:
    """A copy without history, in float64 or complex128 where it holds numbers of a lower precision."""
    return tensor.detach().to(WIDE.get(tensor.dtype, tensor.dtype), copy=True)


def narrow(tensor: Tensor) -> Tensor:
    """A copy without history, in the precision that the tensor has."""
    return tensor.detach().clone()


@contextmanager
def swapped(model: nn.Module, values: Values) -> Iterator[None]:
    """Within, what `values` returns stands in every place of the model that holds a tensor, also in lists of them.

    The places get their own tensors back by `keeping.kept`, which must stand around this.
    """
    made: dict[int, Tensor] = {}
    for slot in list(slots(model)):
        old = slot.tensor
        if id(old) not in made:
            made[id(old)] = _of_kind(old, values(old))
        if type(slot.table) is dict:  # else a script holds it, and it is lifted where an op reads it
            slot.table[slot.leaf] = made[id(old)]
    replace_held(model, made)
    yield


def _of_kind(old: Tensor, new: Tensor) -> Tensor:
    """A parameter where there was one, of the same class and with the same attributes."""
    if not isinstance(old, nn.Parameter):
        return new
    parameter = nn.Parameter(new, old.requires_grad)
    parameter.__class__ = type(old)
    vars(parameter).update(vars(old))
    return parameter
