"""`rule`: teach how a custom op treats units, by an equation or by a function over terms."""

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
from secateur.trace.registry import ATEN, FUNCTIONS, OpRule

MANY = 64  # arguments that are named for a function that takes any number of them
_taught: set[str] = set()  # names of ops whose rules come from users, which may be replaced


def rule(target: Any, equation: str | None = None, *, keeps_zero: bool = False) -> Any:
    """Add a rule for an op that secateur does not know, so that the op no longer freezes the dimensions it touches.

    In the equation `"b i, o i, o -> b o"`:

        the same letter twice       o of the weight, of the bias and of the result are the same units
        only in the operands        i is summed over
        !a                          a is not pruned: its units are mixed, or identified by their position
        ~a                          a mean, variance or norm is taken over a
        (h d)                       one dimension of h times d units, with h outermost
        * and 1                     any number of further dimensions, the same everywhere; a dimension of size one

    With an equation alone, `rule` decorates a function or class. With the name of an op alone, it decorates a function
    of the recorded call (a `secateur.trace.op.Op`), for what an equation cannot express. Such ops count as zero
    multiply-adds. A rule can be wrong: check it with `secateur.testing.check_rule`, and check pruned models with
    `secateur.verify`.

    Args:
        target: a `torch.library` op or its name, a `torch.autograd.Function`, or a Python function that cannot be
            traced into, such as that of a C extension.
        equation: one operand per tensor argument, in their order (a call may omit trailing ones), and one per result.
        keeps_zero: the result is zero along a unit if all operands are. If False, the result is assumed to be non-zero
            there, so fewer axes are exact.

    Returns:
        The target. A class is changed in place; a Python function is wrapped so that a trace can see it, and the
        wrapper must replace the original. With a name, None or a decorator.

    Raises:
        InputError: if the equation is malformed, or if secateur itself has a rule for the op.

    Example:
        >>> import secateur
        >>> @torch.library.custom_op("docs::scale", mutates_args=())
        ... def scale(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        ...     return x * w[:, None, None]
        >>> secateur.rule("docs::scale", "n c *, c -> n c *")

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
        f"a rule cannot be added for {target!r}\n"
        "pass the name of an op such as 'mylib::scale', a torch.autograd.Function or a function"
    )


def _op_name(target: Any) -> str | None:
    """Return the name of an op object, as returned by `torch.library.custom_op`, or as in `torch.ops.mylib.scale`."""
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.name
    if isinstance(target, torch._ops.OpOverloadPacket):
        return target._qualified_op_name
    return target._qualname if isinstance(target, CustomOpDef) else None


def _name(name: str, body: OpRule) -> None:
    namespace, found, _ = name.partition("::")
    if not namespace or not found:
        raise InputError(f"{name!r} is not the name of an op\ninclude its namespace, as in 'mylib::scale'")
    if name in ATEN and name not in _taught:
        raise InputError(f"{name} already has a rule in secateur")
    ATEN.pop(name, None)
    _taught.add(name)
    ATEN[name] = body


def _names(function: Callable[..., Any]) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # builtins have no signature
        return tuple(f"argument{i}" for i in range(MANY))
    return tuple(
        name
        for p in parameters
        for name in ([f"{p.name}{i}" for i in range(MANY)] if p.kind is p.VAR_POSITIONAL else [p.name])
    )


def _forward_names(function: type[torch.autograd.Function]) -> tuple[str, ...]:
    """Return the arguments of `apply`: those of `forward`, without the context (unless `setup_context` takes that)."""
    names = _names(function.forward)
    own_context = function.setup_context is not torch.autograd.Function.setup_context
    return names if own_context else names[1:]


def _visible(function: Callable[..., Any], names: tuple[str, ...], body: OpRule, source: Any) -> Callable[..., Any]:
    """Return the same function in a form that a `TorchFunctionMode` sees."""

    @functools.wraps(function)
    def seen(*args: Any, **kwargs: Any) -> Any:
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if len(args) > len(names):
            raise InputError(f"{seen.__name__} is called with {len(args)} arguments; its rule knows {len(names)}")
        if has_torch_function(tensors):
            return handle_torch_function(seen, tensors, *args, **kwargs)
        return function(*args, **kwargs)

    seen.__name__ = f"{source.__module__}.{source.__name__}"  # not the name of any function of torch
    FUNCTIONS[seen] = body, names
    return seen


@dataclass(frozen=True, slots=True)
class _Place:
    """One occurrence of a letter in the operands. `argument` is None for a tensor in a list."""

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
            return op.opaque(f"the rule {text!r} does not determine how to factor a dimension")
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
    """Return the occurrences of every letter, after factoring dimensions; None if a dimension does not factor."""
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
    """Unify the occurrences of a letter, and apply its marks."""
    for place in places[1:]:
        op.unify(places[0].term, place.term)
    if letter in equation.whole:
        op.freeze(places[0].term, f"marked ! in the rule {equation.text!r}")
    elif letter in equation.averaged:
        _read(op, letter, places, reading, "a mean or norm is taken over it", unsafe=False)
    elif not any(letter in dim for dims in reading.results for dim in dims):
        _mingle(op, places)
        if not any(place.zero for place in places):
            _read(op, letter, places, reading, "units that are no longer zero are summed", unsafe=True)


def _read(op: Op, letter: str, places: Sequence[_Place], reading: EquationReading, text: str, *, unsafe: bool) -> None:
    """Mark units whose count, or whose values when silenced, affect the result: a check must read kept units only."""
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
    """Record that the units are combined with each other, so that they must be chosen jointly."""
    for place in places:
        collapse(place.term)
        mingle(op.dims(place.tensor), place.dim)


def _roles(op: Op, places: dict[str, list[_Place]], reading: EquationReading) -> None:
    """Set roles: a weight that is summed over outputs its other letters; a tensor that is not scales or shifts."""
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
        op.freeze(term, "merged into one dimension with units that are created here")
    return op.fresh([n], op.recorder.reason(op.why("created here")))[0]


def _zero(
    letters: Sequence[str],
    places: dict[str, list[_Place]],
    equation: OpEquation,
    reading: EquationReading,
    keeps_zero: bool,
) -> bool:
    found = [place for letter in letters for place in places.get(letter, ())]
    if any(letter in equation.averaged for letter in letters):
        return True  # units that are not read are filled with zeros
    return keeps_zero and all(place.zero for place in found)
