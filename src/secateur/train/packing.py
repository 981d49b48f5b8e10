"""Nested containers of tensors and numbers as JSON beside named tensors, and back: what pickle is not needed for.

    pack({"step": 3, "moments": (a, b)})  ->  {"{}": [["step", 3], ["moments", {"()": [{"@": "0"}, {"@": "1"}]}]]}
                                              and {"0": a, "1": b}

An object of JSON has one key that says what it stands for: `{}` a dict (its keys need not be texts), `()` a tuple, `@`
a tensor by name, `#` an array of NumPy by its kind, shape and bytes. Lists, texts, numbers (nan and inf too), booleans
and None stand for themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from secateur.errors import FileError, InputError


def pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON; its tensors are added to `tensors`. Raises `InputError` for anything else in it.

    >>> tensors = {}
    >>> pack({0: (1.5, torch.ones(2))}, tensors), list(tensors)
    ({'{}': [[0, {'()': [1.5, {'@': '0'}]}]]}, ['0'])
    """
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().to("cpu", copy=True)
        return {"@": name}
    if isinstance(value, np.ndarray):
        content = torch.from_numpy(np.frombuffer(value.tobytes(), np.uint8).copy())
        return {"#": [value.dtype.str, list(value.shape), pack(content, tensors)]}
    if isinstance(value, Mapping):
        return {"{}": [[pack(key, tensors), pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"()": [pack(item, tensors) for item in value]}
    if isinstance(value, list):
        return [pack(item, tensors) for item in value]
    if isinstance(value, np.generic):  # as a rate out of np.logspace is
        return value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise InputError(f"a checkpoint holds tensors, numbers and texts, but met {type(value).__name__}: {value!r}")


def unpack(data: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What was packed. Raises `FileError` for what was not.

    >>> unpack({"()": [1, [2]]}, {})
    (1, [2])
    """
    if isinstance(data, list):
        return [unpack(item, tensors) for item in data]
    if not isinstance(data, dict):
        return data
    try:
        ((kind, held),) = data.items()
        if kind == "@":
            return tensors[held]
        if kind == "#":
            dtype, shape, content = held
            content = tensors[content["@"]].numpy().tobytes()
            return np.frombuffer(content, dtype).reshape(shape).copy()
        if kind == "()":
            return tuple(unpack(item, tensors) for item in held)
        if kind == "{}":
            return {unpack(key, tensors): unpack(item, tensors) for key, item in held}
    except (ValueError, TypeError, KeyError) as error:
        raise FileError(f"damaged: {type(error).__name__}: {error}") from error
    raise FileError(f"damaged: {kind!r} stands for nothing")


__all__ = ["pack", "unpack"]
