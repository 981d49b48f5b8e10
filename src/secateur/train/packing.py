"""Convert nested containers of tensors and numbers to JSON and named tensors, and back, without pickle.

    pack({"step": 3, "moments": (a, b)})  ->  {"{}": [["step", 3], ["moments", {"()": [{"@": "0"}, {"@": "1"}]}]]}
                                              and {"0": a, "1": b}

A JSON object has one key that names its type: `{}` a dict (whose keys need not be strings), `()` a tuple, `@` a tensor
by name, `#` a NumPy array by its dtype, shape and bytes. Lists, strings, numbers (nan and inf too), booleans and None
are stored as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from secateur.errors import FileError, InputError


def pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Convert `value` to JSON, and add its tensors to `tensors`. Raises `InputError` for values of other types.

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
    if isinstance(value, np.generic):  # such as a learning rate from np.logspace
        return value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise InputError(
        f"a checkpoint cannot store a {type(value).__name__}, only tensors, numbers and strings: {value!r}"
    )


def unpack(data: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Convert back what `pack` made. Raises `FileError` for other data.

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
    raise FileError(f"damaged: unknown type {kind!r}")


__all__ = ["pack", "unpack"]
