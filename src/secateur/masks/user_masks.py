"""Checks of the masks that a caller passes against the weights that they are for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from secateur.anatomy.masked import Worn
from secateur.errors import InputError, nearest
from secateur.masks.patterns import named_pattern


def checked_mask(name: str, kept: Any, found: Mapping[str, Worn]) -> Tensor:
    """Return the mask for a weight. Raises `InputError` for an unknown name or a mask that does not fit."""
    if name not in found:
        raise InputError(f"no weight named {name!r} has a mask{nearest(name, found)}")
    shape = tuple(found[name].mask.mask.shape)
    if not isinstance(kept, Tensor):
        raise InputError(f"the mask for {name} is a {type(kept).__name__}\nit must be a tensor of shape {shape}")
    if tuple(kept.shape) != shape:
        raise InputError(f"the mask for {name} has shape {tuple(kept.shape)}\nit must have shape {shape}")
    strange = kept[(kept != 0) & (kept != 1)]
    if strange.numel():
        raise InputError(f"the mask for {name} has a value other than 0 and 1: {strange[0].item():g}")
    pattern = found[name].mask.pattern
    if not named_pattern(pattern).holds(found[name].layout.upright(kept)):
        raise InputError(f"the mask for {name} does not have the pattern {pattern} of the mask that it replaces")
    return kept


__all__ = ["checked_mask"]
