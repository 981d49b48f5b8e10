"""Short hashes that are stored with measured values, so that values of another model or function are not reused."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

SHORT = 16


def of_tensors(named: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Return a short hash of the names, dtypes, shapes and values of tensors, in this order."""
    running = hashlib.sha256()
    for name, tensor in named:
        _add(running, name, tensor)
    return running.hexdigest()[:SHORT]


def of_weights(model: nn.Module) -> str:
    """Return a short hash of the parameters and buffers of a model."""
    return of_tensors(sorted([*model.named_parameters(), *model.named_buffers()], key=lambda item: item[0]))


def _add(running: Any, name: str, tensor: torch.Tensor) -> None:
    running.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    if not tensor.is_meta:
        flat = tensor.detach().to("cpu").contiguous().reshape(-1)
        running.update(flat.view(torch.uint8).numpy())


def of_values(values: Any) -> str:
    """Return a short hash of nested containers of tensors, numbers and strings; other objects count by their `repr`."""
    running = hashlib.sha256()
    leaves, structure = pytree.tree_flatten(values)
    running.update(repr(structure).encode())
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor):
            _add(running, "", leaf)
        else:
            running.update(f"{type(leaf).__name__} {leaf!r} ".encode())
    return running.hexdigest()[:SHORT]


def of_function(function: Callable[..., Any] | None) -> str:
    """Return a short hash of a function: its name, its defaults and closure and, where available, its source code.

    Functions that it calls count by their name only: when their code changes, this hash does not. A module counts by
    its `repr`, the source of its class and its tensors.

    >>> import torch.nn.functional as F
    >>> of_function(F.cross_entropy) == of_function(F.cross_entropy), of_function(F.mse_loss) == of_function(F.l1_loss)
    (True, False)
    """
    if function is None:
        return "none"
    if isinstance(function, functools.partial):
        return digest(" ".join([of_function(function.func), of_values((function.args, function.keywords))]))
    if isinstance(function, nn.Module):
        return digest(" ".join([called(function), repr(function), _source(type(function)), of_weights(function)]))
    return digest(" ".join([called(function), _source(function), *map(_held, _bound(function))]))


def _source(function: Any) -> str:
    """Return the source code of a function, or of the class of an object; empty for built-in functions."""
    try:
        return inspect.getsource(function if hasattr(function, "__qualname__") else type(function))
    except (OSError, TypeError):
        return ""


def _bound(function: Any) -> list[Any]:
    """Return the values that a function uses in addition to its arguments: its defaults and closure, or its `self`."""
    if isinstance(function, FunctionType):
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        return [function.__defaults__, function.__kwdefaults__, *cells]
    return [getattr(function, "__self__", None)] if hasattr(function, "__qualname__") else [vars(function)]


def _held(value: Any) -> str:
    """Return the hash of a bound value.

    An object whose `repr` shows its address hashes differently in each process. Stored values are then not found
    again, which costs time but is never wrong.
    """
    return f"{called(value)} {_source(value)}" if callable(value) else of_values(value)


def called(function: Callable[..., Any] | None) -> str:
    """Return the qualified name of a function: its module, and its name there.

    >>> called(called), called(None)
    ('secateur.base.hashing.called', 'nothing')
    """
    if function is None:
        return "nothing"
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def digest(text: str) -> str:
    """Return a short hash of a string."""
    return hashlib.sha256(text.encode()).hexdigest()[:SHORT]


__all__ = ["called", "digest", "of_function", "of_tensors", "of_values"]
