"""Computing in double precision, and rounding back."""

from __future__ import annotations

import torch
from torch import Tensor

WIDE = {
    **dict.fromkeys((torch.float32, torch.float16, torch.bfloat16), torch.float64),
    **dict.fromkeys((torch.complex64, torch.complex32), torch.complex128),
}
"""The type in which values of each lower precision are computed."""


def wide(tensor: Tensor) -> Tensor:
    """Return a detached copy, in float64 or complex128 if the tensor has a lower precision."""
    return tensor.detach().to(WIDE.get(tensor.dtype, tensor.dtype), copy=True)


def narrow(tensor: Tensor) -> Tensor:
    """Return a detached copy in the precision of the tensor."""
    return tensor.detach().clone()
