"""Example inputs: how a model is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from .errors import InputError


@dataclass(frozen=True)
class Call:
    """One call of a model: positional and keyword arguments, in evaluation or training mode.

    >>> Call((torch.zeros(1, 3, 8, 8),), training=True).training
    True
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    training: bool = False

    @staticmethod
    def of(example_inputs: Any) -> Call:
        """A tensor is one argument, a tuple or list are the arguments, a dict the keyword arguments.

        Raises `InputError` for anything else, and where no tensor is among them.
        """
        call = _as_call(example_inputs)
        if not any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves((call.args, dict(call.kwargs)))):
            raise InputError(
                f"example_inputs hold no tensor: {example_inputs!r}\n"
                "give what the model is called with: a tensor, a tuple of arguments or a dict of keyword arguments"
            )
        return call

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Call:
        """The same call with every tensor changed."""
        args, kwargs = pytree.tree_map_only(torch.Tensor, change, (self.args, dict(self.kwargs)))
        return Call(args, kwargs, self.training)


def _as_call(example_inputs: Any) -> Call:
    if isinstance(example_inputs, Call):
        return example_inputs
    if isinstance(example_inputs, torch.Tensor):
        return Call((example_inputs,))
    if isinstance(example_inputs, Mapping):
        return Call((), dict(example_inputs))
    if isinstance(example_inputs, Sequence) and not isinstance(example_inputs, (str, bytes)):
        return Call(tuple(example_inputs))
    raise InputError(
        f"example_inputs is a {type(example_inputs).__name__}: {example_inputs!r}\n"
        "give what the model is called with: a tensor, a tuple of arguments or a dict of keyword arguments"
    )


def further(calls: Any) -> tuple[Call, ...]:
    """Several calls. Raises `InputError` for what is no list of them; one call alone is none."""
    if isinstance(calls, (Call, Mapping, str, bytes, torch.Tensor)) or not isinstance(calls, Iterable):
        raise InputError(
            f"calls is a {type(calls).__name__}; give a list of further calls, each as example_inputs are given"
        )
    return tuple(map(Call.of, calls))


def tensors_in(output: Any) -> list[torch.Tensor]:
    """The tensors in whatever a model returns: nested containers, dataclasses, None for missing ones."""
    leaves = pytree.tree_leaves(output)
    found: list[torch.Tensor] = []
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor):
            found.append(leaf)
        elif hasattr(leaf, "__dataclass_fields__"):
            found += tensors_in([getattr(leaf, name) for name in leaf.__dataclass_fields__])
    return found


def refusal(error: Exception, call: Call) -> str:
    """What to tell a user whose model does not run on the example inputs."""
    shapes = ", ".join(f"{tuple(t.shape)} {str(t.dtype)[6:]}" for t in tensors_in((call.args, dict(call.kwargs))))
    return (
        f"the model does not run on these example inputs: {shapes}\n"
        f"it says: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}\n"
        "give inputs of the shape, type and number that its forward takes; several as a tuple, keywords as a dict"
    )
