"""TODO."""

from __future__ import annotations

import torch
from torch import Tensor

WIDE = {
    **dict.fromkeys((torch.float32, torch.float16, torch.bfloat16), torch.float64),
    **dict.fromkeys((torch.complex64, torch.complex32), torch.complex128),
}
"""What each lower precision is lifted to."""


def wide(tensor: Tensor) -> Tensor:
    """A copy without history, in float64 or complex128 where it holds numbers of a lower precision."""
    return tensor.detach().to(WIDE.get(tensor.dtype, tensor.dtype), copy=True)


def narrow(tensor: Tensor) -> Tensor:
    """A copy without history, in the precision that the tensor has."""
    return tensor.detach().clone()
