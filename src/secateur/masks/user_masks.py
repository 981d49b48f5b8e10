"""Masks that a user has, held against the weights that are to wear them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from secateur.anatomy.masked import Worn
from secateur.errors import InputError, nearest
from secateur.masks.patterns import named_pattern


def checked_mask(name: str, kept: Any, found: Mapping[str, Worn]) -> Tensor:
    """The mask for a weight. Raises `InputError` for what is none."""
    if name not in found:
        raise InputError(f"nothing wears a mask under the name {name!r}{nearest(name, found)}")
    shape = tuple(found[name].mask.mask.shape)
    if not isinstance(kept, Tensor):
        raise InputError(f"the mask for {name} is a {type(kept).__name__}; it must be a tensor of its shape {shape}")
    if tuple(kept.shape) != shape:
        raise InputError(f"the mask for {name} is {tuple(kept.shape)}; it must be of its shape {shape}")
    strange = kept[(kept != 0) & (kept != 1)]
    if strange.numel():
        raise InputError(f"the mask for {name} holds more than 0 and 1: {strange[0].item():g}")
    pattern = found[name].mask.pattern
    if not named_pattern(pattern).holds(found[name].layout.upright(kept)):
        raise InputError(f"the mask for {name} has not the pattern {pattern}, which the mask that it wears has")
    return kept


__all__ = ["checked_mask"]
