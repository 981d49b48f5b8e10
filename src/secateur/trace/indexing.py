"""What an index of a tensor consists of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_SHORT = 32  # PyTorch's limit: longer sequences are lists of numbers


def index_items(index: Any) -> tuple[Any, ...]:
    """Return the items of `x[index]`, one for each indexed dimension.

    As in PyTorch, a short list counts as a tuple if an item is not a number: `x[[slice(None), 0]]` is `x[:, 0]`. Any
    other list holds numbers, and indexes one dimension.
    """
    if isinstance(index, tuple):
        return index
    if isinstance(index, list) and len(index) < _SHORT and any(map(_is_index, index)):
        return tuple(index)
    return (index,)


def _is_index(item: Any) -> bool:
    return item is None or item is Ellipsis or isinstance(item, (slice, torch.Tensor, Sequence))
