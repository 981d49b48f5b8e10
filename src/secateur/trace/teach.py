"""`rule`: what an op of the user's own does with units, said in one line or in a function over terms."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._library.custom_ops import CustomOpDef
from torch.overrides import handle_torch_function, has_torch_function
from torch.utils import _pytree as pytree

from secateur.errors import InputError
from secateur.terms import ONE, Term, collapse, mingle, product
from secateur.terms.equation import EquationReading, OpEquation
from secateur.trace.op import Op
from secateur.trace.recorder import forget_rules
from secateur.trace.registry import ATEN, FUNCTIONS, OpRule

MANY = 64  # arguments of a function that takes any number of them
_taught: set[str] = set()  # names of ops whose rules come from users, which may be taught anew


def rule(target: Any, equation: str | None = None, *, keeps_zero: bool = False) -> Any:
    """Teach what an op does with units, so that it no longer freezes what it touches.

    target: a `torch.library` op or its name, a `torch.autograd.Function`, or a Python function whose inside cannot be
    seen (as a C extension's). A class is changed in place; a function is given back in a form that a trace can see,
    which must take the place of the old one. equation: one operand for each tensor argument, in their order (trailing
    ones may be missing in a call), and one for each result. In `"b i, o i, o -> b o"`

        same letter, same fate      o of the weight, of the bias and of the result are the same units
        only in the operands        i is summed over
        !a                          stays whole: its units are mixed, or told apart by their place
        ~a                          a mean, variance or norm is taken over it
        (h d)                       h times d in one dimension, h outermost
        * and 1                     any number of further dimensions, alike everywhere; a dimension of size one

    keeps_zero: where all operands are zero along a unit, so is the result. Without it the result is taken for
    something else, which costs little. Such an op counts no multiply-adds.

    A rule can be taught wrongly: try it with `secateur.testing.check_rule`, and check a cut model with
    `secateur.verify`. Raises `InputError` for a malformed equation, and for an op that has a rule of ours.

    >>> import secateur
    >>> @torch.library.custom_op("docs::scale", mutates_args=())
    ... def scale(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    ...     return x * w[:, None, None]
    >>> secateur.rule("docs::scale", "n c *, c -> n c *")

    With an equation alone it decorates a function or class; with a name alone it decorates a function of the recorded
    call, for what an equation cannot say (see `secateur.trace.registry.Op`):

    >>> @secateur.rule("n c -> n c")
    ... class Double(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return 2 * x
    >>> @secateur.rule("docs::reverse")
    ... def reverse(op):
    ...     op.freeze(op.dims(op["x"])[0], "read backwards")
    ...     op.result(op.dims(op["x"]))
    """
    if equation is None and isinstance(target, str) and "->" in target:
        taught = _by_equation(target, keeps_zero)
        return lambda function: _teach(function, taught)
    if equation is None:
        return lambda body: _teach(target, body) or body
    return _teach(target, _by_equation(equation, keeps_zero))


def _teach(target: Any, body: OpRule) -> Any:
    if isinstance(target, str):
        return _name(target, body)
    if (name := _op_name(target)) is not None:
        _name(name, body)
        return target
    if inspect.isclass(target) and issubclass(target, torch.autograd.Function):
        target.apply = staticmethod(_visible(target.apply, _forward_names(target), body, target))
        return target
    if callable(target) and not inspect.isclass(target):
        return _visible(target, _names(target), body, target)
    raise InputError(
        f"a rule is for an op's name such as 'mylib::scale', a torch.autograd.Function or a function, not {target!r}"
    )


def _op_name(target: Any) -> str | None:
    """The name of an op given as an object: what `torch.library.custom_op` makes, or `torch.ops.mylib.scale`."""
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.name
    if isinstance(target, torch._ops.OpOverloadPacket):
        return target._qualified_op_name
    return target._qualname if isinstance(target, CustomOpDef) else None


def _name(name: str, body: OpRule) -> None:
    namespace, found, _ = name.partition("::")
    if not namespace or not found:
        raise InputError(f"{name!r} is no name of an op; it has a namespace: 'mylib::scale'")
    if name in ATEN and name not in _taught:
        raise InputError(f"{name} has a rule of secateur's own")
    ATEN.pop(name, None)
    _taught.add(name)
    ATEN[name] = body
    forget_rules()


def _names(function: Callable[..., Any]) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # builtins have none
        return tuple(f"argument{i}" for i in range(MANY))
    return tuple(
        name
        for p in parameters
        for name in ([f"{p.name}{i}" for i in range(MANY)] if p.kind is p.VAR_POSITIONAL else [p.name])
    )


def _forward_names(function: type[torch.autograd.Function]) -> tuple[str, ...]:
    """The arguments of `apply`: those of `forward`, whose first is a context unless `setup_context` takes it."""
    names = _names(function.forward)
    own_context = function.setup_context is not torch.autograd.Function.setup_context
    return names if own_context else names[1:]


def _visible(function: Callable[..., Any], names: tuple[str, ...], body: OpRule, source: Any) -> Callable[..., Any]:
    """The same function, but one that a `TorchFunctionMode` sees."""

    @functools.wraps(function)
    def seen(*args: Any, **kwargs: Any) -> Any:
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if len(args) > len(names):
            raise InputError(f"{seen.__name__} is called with {len(args)} arguments; its rule knows {len(names)}")
        if has_torch_function(tensors):
            return handle_torch_function(seen, tensors, *args, **kwargs)
        return function(*args, **kwargs)

    seen.__name__ = f"{source.__module__}.{source.__name__}"  # no name that torch's own functions go by
    FUNCTIONS[seen] = body, names
    return seen


# --- an equation as a rule ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a letter stands among the operands. `argument` is None for a tensor in a list."""

    tensor: torch.Tensor
    argument: str | None
    dim: int
    term: Term
    zero: bool


def _by_equation(text: str, keeps_zero: bool) -> OpRule:
    equation = OpEquation.parse(text)

    def taught(op: Op) -> None:
        tensors = op.tensors()
        reading = equation.read([t.shape for t in tensors], [t.shape for t in op.outs])
        places = _places(op, reading, tensors)
        if places is None:
            return op.opaque(f"factors that the rule {text!r} does not tell apart")
        for letter, found in places.items():
            _meet(op, letter, found, equation, reading)
        _roles(op, places, reading)
        for number, out in enumerate(op.outs):
            dims = reading.results[number]
            terms = [_made(op, letters, n, places) for letters, n in zip(dims, out.shape, strict=True)]
            zero = [_zero(letters, places, equation, reading, keeps_zero) for letters in dims]
            op.result(terms, zero, out=out)

    taught.__doc__ = text
    return taught


def _places(op: Op, reading: EquationReading, tensors: Sequence[torch.Tensor]) -> dict[str, list[_Place]] | None:
    """Where every letter stands, dimensions taken apart into their letters."""
    places: dict[str, list[_Place]] = {}
    for tensor, dims in zip(tensors, reading.operands, strict=True):
        argument = next((name for name, value in op.arguments.items() if value is tensor), None)
        for dim, letters in enumerate(dims):
            whole, zero = op.dims(tensor)[dim], op.zero(tensor)[dim]
            if whole.n == 1:
                continue
            parts = op.factor(whole, [reading.sizes[letter] for letter in letters])
            if parts is None:
                return None
            for letter, part in zip(letters, parts, strict=True):
                places.setdefault(letter, []).append(_Place(tensor, argument, dim, part, zero))
    return places


def _meet(op: Op, letter: str, places: Sequence[_Place], equation: OpEquation, reading: EquationReading) -> None:
    """Same letter, same fate; and what becomes of it."""
    for place in places[1:]:
        op.unify(places[0].term, place.term)
    if letter in equation.whole:
        op.freeze(places[0].term, f"stays whole by the rule {equation.text!r}")
    elif letter in equation.averaged:
        _read(op, letter, places, reading, "a mean or norm is taken over it", unsafe=False)
    elif not any(letter in dim for dims in reading.results for dim in dims):
        _mingle(op, places)
        if not any(place.zero for place in places):
            _read(op, letter, places, reading, "units that are no longer zero are summed", unsafe=True)


def _read(op: Op, letter: str, places: Sequence[_Place], reading: EquationReading, text: str, *, unsafe: bool) -> None:
    """Units whose number, or whose values once silenced, enter the result: a check must read the kept ones only."""
    _mingle(op, places)
    out = [d for d, letters in enumerate(reading.results[0]) if letter in letters]
    elsewhere = any(letter in dim for dims in reading.results[1:] for dim in dims)
    if elsewhere or len(out) > 1 or any(place.argument is None for place in places):
        return op.freeze(places[0].term, f"{text}, where it cannot be checked")
    op.inexact(places[0].term, text, unsafe=unsafe)
    for number, place in enumerate(places):
        assert place.argument is not None
        op.reads(place.argument, place.dim, out=out[0] if out and number == 0 else None)
    return None


def _mingle(op: Op, places: Sequence[_Place]) -> None:
    """The units meet each other, so none of them can go by a choice of its own."""
    for place in places:
        collapse(place.term)
        mingle(op.dims(place.tensor), place.dim)


def _roles(op: Op, places: dict[str, list[_Place]], reading: EquationReading) -> None:
    """A weight that is summed over makes the letters it leaves; what is not summed over scales, or shifts them."""
    kept = {letter for dims in reading.results for dim in dims for letter in dim}
    sums = {letter for letter in places if letter not in kept}
    for letter, found in places.items():
        for place in found:
            role = "input" if letter in sums else "output" if sums else "scale"
            op.role(place.tensor, place.dim, role)


def _made(op: Op, letters: Sequence[str], n: int, places: dict[str, list[_Place]]) -> Term:
    if n == 1:
        return ONE
    if all(letter in places for letter in letters):
        return product(places[letter][0].term for letter in letters)
    known = {letter: places[letter][0].term for letter in letters if letter in places}
    for term in known.values():
        op.freeze(term, "counted together with units that are made here")
    return op.fresh([n], op.recorder.reason(op.why("made here")))[0]


def _zero(
    letters: Sequence[str],
    places: dict[str, list[_Place]],
    equation: OpEquation,
    reading: EquationReading,
    keeps_zero: bool,
) -> bool:
    found = [place for letter in letters for place in places.get(letter, ())]
    if any(letter in equation.averaged for letter in letters):
        return True  # what is not read is put back as zero
    return keeps_zero and all(place.zero for place in found)
