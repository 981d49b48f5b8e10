"""Masks in a file: one bit per weight, next to the unmasked weights.

A masked weight is stored under its plain name, its mask as bytes (the first weight in the highest bit) under that name
followed by `.secateur_mask`. The metadata key `secateur_masks` holds a JSON object from these names to patterns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur.anatomy.guard import guard
from secateur.anatomy.masked import Mask, Worn, put_on
from secateur.errors import FileError, InputError
from secateur.files.fitting import FittedFile
from secateur.masks.patterns import PATTERNS

MASKS = "secateur_masks"
SUFFIX = ".secateur_mask"
_BITS = tuple(1 << place for place in range(7, -1, -1))


@dataclass(frozen=True, slots=True)
class StoredMask:
    """A mask as one bit per weight, and the pattern of its zeros."""

    bits: Tensor
    pattern: str


def packed(mask: Tensor) -> Tensor:
    """Return which elements are not zero, as bits: (ceil(n / 8),) uint8.

    >>> packed(torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 1.0, 1.0])).tolist()
    [129, 128]
    """
    flat = (mask != 0).cpu().flatten()
    rows = nn.functional.pad(flat.to(torch.uint8), (0, -len(flat) % 8)).view(-1, 8)
    return (rows * torch.tensor(_BITS, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


def unpacked(bits: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the mask that `packed` made, as bools.

    >>> unpacked(torch.tensor([129, 128], dtype=torch.uint8), (3, 3)).tolist()
    [[True, False, False], [False, False, False], [False, True, True]]
    """
    rows = bits.unsqueeze(1) & torch.tensor(_BITS, dtype=torch.uint8)
    return (rows != 0).flatten()[: torch.Size(shape).numel()].reshape(shape)


def stored_masks(found: Mapping[str, Worn]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata that a file stores; both are empty if no weight has a mask."""
    for name, one in found.items():
        if bool(((one.mask.mask != 0) & (one.mask.mask != 1)).any()):
            raise InputError(
                f"the mask of {name} holds more than 0 and 1, as averaged buffers do (use_buffers=True)\n"
                "multiply it into the weight first: secateur.masks.masks_of(model).harden()"
            )
    tensors = {f"{name}{SUFFIX}": packed(one.mask.mask) for name, one in found.items()}
    patterns = {name: one.mask.pattern for name, one in found.items()}
    return tensors, {MASKS: json.dumps(patterns)} if patterns else {}


def taken_out(tensors: dict[str, Tensor], metadata: Mapping[str, str]) -> dict[str, StoredMask]:
    """Return the masks of a file, and remove them from `tensors`. A file of an older secateur has none.

    Raises `FileError`, whose message continues "<path>: ...".
    """
    if MASKS not in metadata:
        return {}
    try:
        patterns = json.loads(metadata[MASKS])
    except (ValueError, RecursionError) as error:
        raise FileError(f"its metadata are damaged: {MASKS}: {error or type(error).__name__}") from error
    if not isinstance(patterns, dict):
        raise FileError(f"its metadata are damaged: {MASKS} is a {type(patterns).__name__}, not an object")
    return {name: _taken(name, pattern, tensors) for name, pattern in patterns.items()}


def _taken(name: str, pattern: object, tensors: dict[str, Tensor]) -> StoredMask:
    if not isinstance(pattern, str) or pattern not in PATTERNS:
        raise FileError(
            f"the mask of {name} has the pattern {pattern!r}; this secateur knows {', '.join(PATTERNS)}: update it"
        )
    if f"{name}{SUFFIX}" not in tensors:
        raise FileError(f"its metadata are damaged: {MASKS} names {name!r}, but the file has no mask for it")
    return StoredMask(tensors.pop(f"{name}{SUFFIX}"), pattern)


def fitted_masks(fitted: FittedFile, stored: Mapping[str, StoredMask]) -> dict[str, Tensor]:
    """Return masks as bools by name, after a check against the tensors that are to be loaded.

    Raises `FileError`, whose message continues "<path> ...".
    """
    parameters = {slot.name: new for slot, new in fitted.tensors if isinstance(new, nn.Parameter)}
    found = {}
    for name, mask in stored.items():
        if name not in parameters or not parameters[name].is_floating_point():
            raise FileError(f"masks {name!r}, which is not a parameter of this {type(fitted.model).__name__}")
        found[name] = _fitted(name, mask.bits, tuple(parameters[name].shape))
    return found


def _fitted(name: str, bits: Tensor, shape: tuple[int, ...]) -> Tensor:
    count = torch.Size(shape).numel()
    if bits.dtype != torch.uint8 or tuple(bits.shape) != (-(-count // 8),):
        kind = str(bits.dtype).removeprefix("torch.")
        raise FileError(
            f"holds a mask of {name} that does not fit it\n  mask    {tuple(bits.shape)} {kind}\n  weight  {shape}"
        )
    if count % 8 and int(bits[-1]) & ((1 << (-count % 8)) - 1):
        raise FileError(f"holds a mask of {name} with bits behind the last weight; it is damaged")
    return unpacked(bits, shape)


def wear(model: nn.Module, masks: Mapping[str, Tensor], stored: Mapping[str, StoredMask]) -> None:
    """Put masks on the parameters of these names, in every module that holds them."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    wanted = {}
    for name, kept in masks.items():
        parameter = parameters[name]
        values = torch.empty_like(parameter.detach()).copy_(kept)
        wanted[id(parameter)] = Mask(values, stored[name].pattern)
    for module in list(model.modules()):
        for leaf, parameter in list(module._parameters.items()):
            if parameter is not None and id(parameter) in wanted:
                put_on(module, leaf, wanted[id(parameter)])
    if wanted:
        guard(model)


__all__ = ["MASKS", "StoredMask", "fitted_masks", "packed", "stored_masks", "taken_out", "unpacked", "wear"]
