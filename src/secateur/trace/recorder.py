"""Records one run of a model: its torch functions, their aten ops, and the sizes that Python code computes.

A `TorchFunctionMode` sees the functions that user code calls, with the integers that it passes; a `TorchDispatchMode`
sees the aten ops below. If a function has a rule, the ops inside it are ignored. The types are attributes of the
tensors, so no activation is kept alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from secateur.base import meta
from secateur.errors import InputError
from secateur.graph.parts import Sample
from secateur.trace import size_functions as sized
from secateur.trace import stacked
from secateur.trace.blocks import SUMS, CallWatch
from secateur.trace.notes import Notes
from secateur.trace.op import Op
from secateur.trace.registry import ATEN, FUNCTIONS, OpRule
from secateur.trace.rules import pointwise, routing
from secateur.trace.typed import get

# Ops whose sizes are handled by the torch function that calls them.
SIZED_OPS = frozenset(
    f"aten::{name}" for name in "view _unsafe_view reshape expand repeat split split_with_sizes slice narrow".split()
)
# Ops that only move memory, which may run or not depending on sizes.
LAYOUT_OPS = SIZED_OPS | frozenset(
    f"aten::{name}"
    for name in "clone alias contiguous permute transpose t unsqueeze squeeze detach _reshape_alias copy_".split()
)
_aten_ops: dict[Any, tuple[str, OpRule | None, tuple[str, ...], str, bool]] = {}


def _aten_rule(func: Any) -> tuple[OpRule | None, tuple[str, ...], str, bool]:
    """Return the rule, argument names and shortcut key of an aten overload, and whether it is random.

    The rule is looked up again for every call, because the table may have changed since the last one.
    """
    if func not in _aten_ops:
        default = pointwise.pointwise if torch.Tag.pointwise in func.tags else None
        names = tuple(a.name for a in func._schema.arguments)
        random = torch.Tag.nondeterministic_seeded in func.tags
        _aten_ops[func] = func._schema.name, default, names, meta.key(func), random
    name, default, names, key, random = _aten_ops[func]
    return ATEN.get(name) or ATEN.get(name.rstrip("_")) or default, names, key, random


class Recorder(Notes):
    """Applies the rules to every call, and collects what they state."""

    def __init__(self, module_names: dict[int, str], device: torch.device | None, *, lift: bool = False):
        super().__init__(module_names, device, lift=lift)
        self.watch = CallWatch(self.macs, self.path)

    def on_function(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rule, names = FUNCTIONS[func]
        self.advance()
        self.ran = func.__name__
        with self.silence():  # the ops of a shortcut are not ops of the model
            out = self._short(func.__name__, args, kwargs)
            if out is NotImplemented:
                out = self.form(func)(*args, **kwargs)
        self._walked(func.__name__, args)
        op = Op(self, func.__name__, _named(names, args, kwargs), out)
        self._apply(rule, op)
        self._note_memory(op)
        sized.after(self, func, args, kwargs, out)
        return out

    def on_opaque(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self.silence():
            out = func(*args, **kwargs)
        arguments = {str(i): value for i, value in enumerate([*args, *kwargs.values()])}
        op = Op(self, func.__name__, arguments, out)
        op.opaque("its implementation cannot be traced")
        self._note_memory(op)
        self._note_life(op)
        return out

    def on_op(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.advance()
        self.ran = func._schema.name
        rule, names, key, random = _aten_rule(func)
        out = self._short(key, args, kwargs)
        if out is NotImplemented:
            out = func(*args, **kwargs)
        self._walked(func._schema.name, args)
        op = Op(self, func._schema.name, _named(names, args, kwargs), out)
        if not isinstance(out, (torch.Tensor, tuple, list)):
            for tensor in op.tensors():  # a number, which was still read from the tensor
                self.typed(tensor)
        else:
            self._apply(rule, op)
            if random and op.outs:
                self.reading().drawn = tuple(op.dims(op.outs[0]))
            if op.name in SUMS:
                self.watch.add(out)
            if not self.open and op.name in SIZED_OPS:
                op.opaque("its sizes come from code that cannot be traced, such as TorchScript")
            self._note_memory(op)
        return out

    def _walked(self, name: str, args: Sequence[Any]) -> None:
        """Record the step: a pruned model must run the same ops, with the same floats as arguments."""
        if self.counting and not self.ledger.uncounted and name not in LAYOUT_OPS:
            self.path.append((name, tuple(a for a in args if type(a) is float)))

    def _apply(self, rule: OpRule | None, op: Op) -> None:
        """Apply a rule. Without a rule, or if the rule fails, freeze the dimensions and report the op."""
        if rule is None:
            self.unknown[op.name] += 1
            self.samples.setdefault(op.name, Sample(*(_shapes(tensors) for tensors in (op.tensors(), op.outs))))
            op.opaque(f"no rule for {op.name}")
            return self._note_life(op)
        try:
            stacked.apply(rule, op)
        except Exception as error:  # noqa: BLE001 - an unexpected use of an op must not be fatal
            self.unknown[f"{op.name} (its rule failed: {type(error).__name__})"] += 1
            op.opaque(str(error) if isinstance(error, InputError) else f"the rule for {op.name} failed")
        if not self.ledger.uncounted:
            self._note_uses(op)
            self._note_life(op)

    def _note_memory(self, op: Op) -> None:
        for out in op.outs:
            self.memory.note(out)

    def _note_life(self, op: Op) -> None:
        if self.counting:
            self.life.note(op.outs, op.tensors)

    def _note_uses(self, op: Op) -> None:
        """Record uses of scalable tensors and of unit indices that the rule of the op did not handle."""
        for tensor in op.tensors():
            typed = get(tensor)
            if typed is not None and typed.name is not None and not typed.dims:
                self.reached.add(typed.name)  # rules ignore tensors without dimensions
            if typed is not None and typed.numbers is not None:
                routing.follow(op, tensor)
            if typed is not None and (typed.origins or typed.at) and not any(tensor is other for other in op.along):
                self.used.append(typed)

    def _short(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the result of a common op on meta tensors without running its kernel, else `NotImplemented`."""
        return meta.shorted(key, args, kwargs) if self.device is not None else NotImplemented

    def after(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        if self.quiet:
            return out
        if isinstance(out, torch.Tensor):
            self.known(out)  # a subclass wraps the result of an op
        return sized.after(self, func, args, kwargs, out)


def _named(names: Sequence[str], args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = dict(zip(names, args, strict=False))
    if not kwargs:
        return arguments
    arguments.update(kwargs)
    return {name: arguments[name] for name in dict.fromkeys((*names, *kwargs)) if name in arguments}


def _shapes(tensors: Sequence[torch.Tensor]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(tensor.shape) for tensor in tensors)
