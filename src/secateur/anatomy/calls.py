"""Example inputs: how a model is called."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from secateur.base.modes import unseen
from secateur.base.nested import changed, is_object, tensors_in
from secateur.base.text import a_kind, brief, first_line
from secateur.errors import InputError

Change = Callable[[torch.Tensor], torch.Tensor]
WAY_OUT = (
    "pass what the model is called with: a tensor, a tuple of arguments or a dict of keyword arguments; "
    "or say how it is run: call=lambda model: model(...)"
)


@dataclass(frozen=True)
class Call:
    """One call of a model: positional and keyword arguments, in evaluation or training mode.

    Attributes:
        args: The positional arguments: tensors, or anything that holds tensors, such as containers, dataclasses and
            objects with tensors in attributes.
        kwargs: The keyword arguments, of the same kinds.
        training: Whether the model runs in training mode.
        by: A function that runs the model that it is passed, in place of a plain call; it may also be passed a copy.
        changes: What `map` applies to the tensors that `by` passes to the model.

    Example:
        >>> Call((torch.zeros(1, 3, 8, 8),), training=True).training
        True
        >>> Call(by=lambda model: model(torch.zeros(1, 2))).run(nn.Linear(2, 3)).shape
        torch.Size([1, 3])
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    training: bool = False
    by: Callable[[nn.Module], Any] | None = None
    changes: tuple[_Change, ...] = field(default=(), repr=False)

    @staticmethod
    def of(example_inputs: Any) -> Call:
        """Return the call that example inputs stand for.

        Args:
            example_inputs: A tensor or an object that holds tensors is one argument, a tuple or list is the positional
                arguments, a dict the keyword arguments; a function runs the model. `()` is a call without arguments.

        Returns:
            The call, in evaluation mode.

        Raises:
            InputError: The example inputs are of another kind, or hold no tensor.
        """
        call = _as_call(example_inputs)
        arguments = (call.args, dict(call.kwargs))
        if call.by is None and any(arguments) and not tensors_in(arguments):
            raise InputError(f"example_inputs hold no tensor: {brief(example_inputs)}\n{_way_out(arguments)}")
        return call.map(usual) if any(t.is_inference() for t in tensors_in(arguments)) else call

    def map(self, change: Change) -> Call:
        """Return the call with every tensor changed.

        Args:
            change: A function from a tensor to the one that takes its place.
        """
        if self.by is not None:
            return replace(self, changes=(*self.changes, _Change(change)))
        args, kwargs = changed((self.args, dict(self.kwargs)), change)
        return Call(args, kwargs, self.training)

    def run(self, model: nn.Module) -> Any:
        """Run the model, and return its output."""
        if self.by is None:
            return model(*self.args, **self.kwargs)
        with _receiving(model, self.changes):
            return self.by(model)


class _Change:
    """A change of the tensors that a model is passed, the same in every run for equal tensors."""

    def __init__(self, change: Change):
        self.change = change
        self._known: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._place = 0

    def start(self) -> None:
        """Start another run."""
        self._place = 0

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        place, self._place = self._place, self._place + 1
        if place < len(self._known) and _equal(self._known[place][0], tensor):
            return self._known[place][1].clone()
        made = self.change(tensor)
        if not made.is_meta:
            self._known[place:] = [(tensor.detach().clone(), made.detach().clone())]
        return made


def _equal(x: torch.Tensor, y: torch.Tensor) -> bool:
    alike = (x.shape, x.dtype, x.device) == (y.shape, y.dtype, y.device)
    return alike and not x.is_meta and bool(torch.equal(x, y))


@contextmanager
def _receiving(model: nn.Module, changes: Sequence[_Change]) -> Iterator[None]:
    """Change the tensors that the model is called with, within this context."""

    def change(tensor: torch.Tensor) -> torch.Tensor:
        return functools.reduce(lambda t, change: change(t), changes, tensor)

    def receive(_: nn.Module, args: Any, kwargs: Any) -> Any:
        with unseen():
            return changed((args, kwargs), change)

    for one in changes:
        one.start()
    handle = model.register_forward_pre_hook(receive, prepend=True, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def usual(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor, or a copy if it was made under `torch.inference_mode`: such tensors cannot be trained."""
    return tensor.clone() if tensor.is_inference() else tensor


def _as_call(example_inputs: Any) -> Call:
    given = example_inputs
    if isinstance(given, Call):
        return given
    if isinstance(given, (types.FunctionType, types.MethodType, functools.partial)):
        return Call(by=given)
    if isinstance(given, torch.Tensor):
        return Call((given,))
    if isinstance(given, Mapping):
        return Call((), dict(given))
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes)) and not hasattr(given, "_fields"):
        return Call(tuple(given))
    if is_object(given) and tensors_in(given):
        return Call((given,))
    value = "" if isinstance(given, (nn.Module, np.ndarray)) else f": {brief(given)}"
    raise InputError(f"example_inputs is {a_kind(given)}{value}\n{_way_out(given)}")


def _way_out(given: Any) -> str:
    """Return the remedy for inputs of a wrong kind."""
    if isinstance(given, nn.Module):
        return "that is a model: it comes first, then what it is called with: secateur.prune(model, inputs, 'macs=0.5')"
    if any(isinstance(leaf, np.ndarray) for leaf in pytree.tree_leaves(given)):
        return "make a tensor from the array first: torch.from_numpy(array)"
    return WAY_OUT


def called(example_inputs: Any, call: Callable[[nn.Module], Any] | None) -> Call:
    """Return the call that example inputs or a function `call` stand for. Raises `InputError` if both are passed."""
    if call is None:
        return Call.of(example_inputs)
    if not callable(call) or isinstance(call, (type, nn.Module)):
        raise InputError(
            f"call={brief(call)}: it must be a function that runs the model, as in call=lambda model: model(x, y)"
        )
    if example_inputs is not None:
        raise InputError(
            "example_inputs and call= both say what the model is called with; pass one of them "
            "(a target that goes with call= is named: target='macs=0.5')"
        )
    return Call(by=call)


def further(calls: Any) -> tuple[Call, ...]:
    """Return several calls. Raises `InputError` for anything but a list of them, such as a single call."""
    one = isinstance(calls, (Call, Mapping, str, bytes, torch.Tensor))
    if one or not isinstance(calls, Iterable):
        raise InputError(
            f"calls is {a_kind(calls)}; pass a list of further calls, each in a form that example_inputs takes"
        )
    return tuple(map(Call.of, calls))


class ModelIgnored(InputError):
    """Raised where `call=` does not run the model that it is passed."""

    def __init__(self) -> None:
        super().__init__(
            "call= does not use the model that it is passed, so it runs another one\n"
            "run the argument of the function: call=lambda model: model(x)"
        )


def refusal(error: Exception, call: Call) -> str:
    """Return the message for a model that does not run on the example inputs."""
    if call.by is not None:
        return f"the model does not run as call= runs it\n{_said(error)}\ntry call(model) by itself"
    return (
        f"{failure(error, call, 'these example inputs')}\n"
        "pass inputs of the shape, type and number that its forward takes: several as a tuple, keywords as a dict; "
        "or say how it is run: call=lambda model: model(...)"
    )


def failure(error: Exception, call: Call, given: str) -> str:
    """Return on which inputs a model does not run, and its error."""
    shapes = ", ".join(f"{tuple(t.shape)} {str(t.dtype)[6:]}" for t in tensors_in((call.args, dict(call.kwargs))))
    return f"the model does not run on {given}: {shapes or 'none'}\n{_said(error)}"


def _said(error: Exception) -> str:
    return f"it says: {type(error).__name__}: {first_line(error)}"


__all__ = ["Call", "ModelIgnored", "called", "failure", "further", "refusal", "tensors_in"]
