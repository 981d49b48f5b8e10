"""Short hashes by which files of measured values know what they were measured of: old ones never pass for new ones."""

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
    """Names, types, shapes and values of tensors, in this order, as a short hash."""
    running = hashlib.sha256()
    for name, tensor in named:
        _add(running, name, tensor)
    return running.hexdigest()[:SHORT]


def of_weights(model: nn.Module) -> str:
    """The parameters and buffers of a model as a short hash."""
    return of_tensors(sorted([*model.named_parameters(), *model.named_buffers()], key=lambda item: item[0]))


def _add(running: Any, name: str, tensor: torch.Tensor) -> None:
    running.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    if not tensor.is_meta:
        flat = tensor.detach().to("cpu").contiguous().reshape(-1)
        running.update(flat.view(torch.uint8).numpy())


def of_values(values: Any) -> str:
    """Tensors, numbers and texts in nested containers; of anything else, what it prints as."""
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
    """A function by its name and, where Python can say, its source, its defaults and what it closes over.

    What it calls is taken by name: if another function changes, this one's fingerprint does not. A module is what it
    prints as, with the source of its class and its tensors.

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
    """The source text; of an object, that of its class. Built-in functions have none: their name must do."""
    try:
        return inspect.getsource(function if hasattr(function, "__qualname__") else type(function))
    except (OSError, TypeError):
        return ""


def _bound(function: Any) -> list[Any]:
    """What a function brings along beside its arguments."""
    if isinstance(function, FunctionType):
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        return [function.__defaults__, function.__kwdefaults__, *cells]
    return [getattr(function, "__self__", None)] if hasattr(function, "__qualname__") else [vars(function)]


def _held(value: Any) -> str:
    """What prints with its address is another in each process, so at worst nothing is found again."""
    return f"{called(value)} {_source(value)}" if callable(value) else of_values(value)


def called(function: Callable[..., Any] | None) -> str:
    """What a function of the user's is called: the place where it is defined, and its name there.

    >>> called(called), called(None)
    ('secateur.base.hashing.called', 'nothing')
    """
    if function is None:
        return "nothing"
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def digest(text: str) -> str:
    """A short hash."""
    return hashlib.sha256(text.encode()).hexdigest()[:SHORT]


__all__ = ["called", "digest", "of_function", "of_tensors", "of_values"]
