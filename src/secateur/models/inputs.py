"""Example inputs from a string such as `1x3x224x224`."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from secateur.errors import InputError

DTYPES = {
    name: getattr(torch, name)
    for name in ("float16", "bfloat16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")
}
LARGEST = 2**31
"""The maximum number of elements of one input; more are probably a typing error."""


def parse_input(text: str) -> tuple[Tensor, ...]:
    """Return the inputs that `text` describes: sizes joined by x, a dtype after a colon, inputs separated by commas.

    The content is always the same: floats are normally distributed; integers and booleans are 0 or 1, which every
    vocabulary has. Raises `InputError` if the string is malformed, a size is zero, or the dtype is unknown.

    >>> [(tuple(x.shape), x.dtype) for x in parse_input("1x3x32x32,1x7:int64")]
    [((1, 3, 32, 32), torch.float32), ((1, 7), torch.int64)]
    """
    generator = torch.Generator().manual_seed(0)
    return tuple(_parse_one(part.strip(), generator) for part in text.split(","))


def _parse_one(text: str, generator: torch.Generator) -> Tensor:
    sizes, _, dtype = text.partition(":")
    if not re.fullmatch(r"[1-9][0-9]*(x[1-9][0-9]*)*(:.+)?", text):
        raise InputError(
            f"{text!r} is not an input shape; write positive sizes joined by x, as in 1x3x224x224 or 1x16:int64"
        )
    if (dtype or "float32") not in DTYPES:
        raise InputError(f"{text!r} has the unknown dtype {dtype!r}; known are {', '.join(DTYPES)}")
    shape = [int(size) for size in sizes.split("x")]
    if math.prod(shape) > LARGEST:
        raise InputError(
            f"{text!r} has {math.prod(shape)} elements, above the limit of {LARGEST}; give a smaller input"
        )
    return _content(shape, DTYPES[dtype or "float32"], generator)


def _content(shape: list[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)
