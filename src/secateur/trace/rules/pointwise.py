"""Elementwise ops: `x: [a, b], y: [a, b] -> [a, b]`; equal letters are the same units, and size one broadcasts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from secateur.terms import ONE, Axis, Term
from secateur.trace.op import Op, bare
from secateur.trace.registry import rule
from secateur.trace.rules.index import factory
from secateur.trace.typed import Origins, Place, is_blank, mark_blank

# f(0) = 0: a silenced unit is still zero after these.
ZERO_STAYS = frozenset(
    "relu relu6 leaky_relu gelu silu mish tanh elu celu selu hardswish neg abs sqrt sin tan asin atan sinh "
    "asinh atanh erf expm1 log1p sign round floor ceil trunc frac square native_dropout dropout clone detach alias "
    "_to_copy contiguous zeros_like prelu _prelu_kernel rrelu softshrink hardshrink softsign nan_to_num "
    "lift_fresh lift_fresh_copy rrelu_with_noise _conj conj_physical _neg_view resolve_conj resolve_neg sgn "
    "angle".split()
)
# zero times anything; for a quotient only the numerator counts
ZERO_IF_ANY = frozenset({"mul", "logical_and", "bitwise_and"})
ZERO_IF_FIRST = frozenset({"div", "true_divide", "polar"})
ZERO_IF_ALL = frozenset({"add", "sub", "rsub", "maximum", "minimum", "where", "lerp", "copy", "hypot", "complex"})
# f(s * x) = s * f(x) for s > 0
PROPORTIONAL = frozenset("neg abs relu clone contiguous _to_copy to mul div detach alias".split())
COPIES = frozenset({"clone", "contiguous", "_to_copy", "to", "alias", "detach"})
ROLES = {"mul": "scale", "div": "scale", "add": "shift", "sub": "shift"}


def broadcast(op: Op, tensors: Sequence[torch.Tensor], out: torch.Tensor) -> list[Term]:
    """Unify operands from the right, and return the terms of the result."""
    dims: list[Term | None] = [None] * out.dim()
    single: dict[int, Term] = {}
    for tensor in tensors:
        terms = op.dims(tensor)
        shift = out.dim() - len(terms)
        for i, term in enumerate(terms, shift):
            if term.n != 1 and i >= 0:
                seen = dims[i]
                if seen is None:
                    dims[i] = term
                else:
                    op.unify(seen, term)
            elif term is not ONE:  # one unit of several, which it remains
                single[i] = term
    made = enumerate(zip(dims, out.shape, strict=True))
    return [d if d is not None else (single.get(i, ONE) if n == 1 else _literal(op, n)) for i, (d, n) in made]


def _literal(op: Op, n: int) -> Term:
    return Axis(n, op.recorder.reason(op.why("broadcast to a literal size")))


def zeros(op: Op, tensors: Sequence[torch.Tensor], dims: Sequence[Term]) -> list[bool]:
    """Return, per dimension of the result, whether silenced units are still zero."""
    name = bare(op.name)
    flags = []
    for i, term in enumerate(dims):
        held = [_holds_zero(op, t, i - len(dims)) for t in tensors] if term.n != 1 else [True]
        flags.append(_still_zero(name, held, op))
    return flags


def _holds_zero(op: Op, tensor: torch.Tensor, dim: int) -> bool:
    typed = op.typed(tensor)
    return -dim <= len(typed.dims) and typed.dims[dim].n != 1 and typed.zero[dim]


def _still_zero(name: str, held: list[bool], op: Op) -> bool:
    if name == "hardtanh":
        return held[0] and op.get("min_val", -1) <= 0 <= op.get("max_val", 1)
    if name in ZERO_STAYS or name == "pow":
        return held[0] and (name != "pow" or _positive(op["exponent"]))
    if name in ZERO_IF_ANY:
        return any(held)
    if name in ZERO_IF_FIRST:
        return held[0]
    if name == "masked_fill":
        return held[0] and isinstance(op["value"], (int, float)) and op["value"] == 0
    return name in ZERO_IF_ALL and all(held) and not _scalar_operand(op)


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and value > 0


def _scalar_operand(op: Op) -> bool:
    """Return whether a non-zero number is added, so that nothing stays zero."""
    return isinstance(op["other"], (int, float)) and op["other"] != 0


@rule(*(f"aten::{name}" for name in "hardswish mish rsub complex polar floor_divide log_sigmoid masked_fill".split()))
def pointwise(op: Op) -> None:
    """x: [*a], y: [*a] -> [*a]"""
    tensors = op.tensors()
    name = bare(op.name)
    for out in op.outs:
        if out.dim() == 0 and any(t.dim() for t in tensors):
            op.result([], out=out)
            continue
        dims = broadcast(op, tensors, out)
        for tensor in tensors:
            for dim in range(tensor.dim()):
                op.role(tensor, dim, ROLES.get(name, "shift"))
        origins, at = _scaled(op, tensors, out), _place(op, tensors, out)
        if at is not None and name in PROPORTIONAL and not any(t is tensors[0] for t in tensors[1:]):
            op.along = [
                *op.along,
                tensors[0],
            ]  # rescaled or masked, it is still that parameter, whose readers are recorded
        op.result(dims, zeros(op, tensors, dims), out=out, at=at, origins=origins)


def _place(op: Op, tensors: Sequence[torch.Tensor], out: torch.Tensor) -> Sequence[Place | None] | None:
    """Return the places of a rescaled or cast weight, whose dimensions keep their roles."""
    first = op.typed(tensors[0]) if tensors else None
    return first.at if first is not None and tensors[0].shape == out.shape else None


def _scaled(op: Op, tensors: Sequence[torch.Tensor], out: torch.Tensor) -> Origins:
    """Return the origins of a result that is proportional to its operands: a sum to both together, a product to one.

    If a factor without origins depends on the same parameters, the op that read them has recorded that use.
    """
    found = [op.origins(tensor) for tensor in tensors]
    along = _along(bare(op.name), [op.typed(tensor).origins for tensor in tensors], found)
    op.along = [tensors[i] for i in along]
    return tuple(origin.then("broadcast", tuple(out.shape)) for i in along for origin in found[i])


def _along(name: str, made: Sequence[Origins], found: Sequence[Origins]) -> Sequence[int]:
    """Return the operands to which the result is proportional; `found` includes parameters themselves, `made` does not.

    In a product with a parameter it is the parameter, because after a norm the other operand is not proportional.
    """
    if len(found) == 1:
        return (0,) if name in PROPORTIONAL else ()
    if len(found) != 2:
        return ()
    if name in ("add", "sub"):
        return (0, 1) if all(found) else ()
    if name == "div":
        return (0,) if made[0] and not made[1] else ()
    if name != "mul" or all(made):
        return ()
    parameters = [i for i in (0, 1) if found[i] and not made[i]]
    return (parameters or [i for i in (0, 1) if made[i]])[:1]


@rule(
    *("aten::clone", "aten::alias", "aten::_to_copy", "aten::contiguous", "aten::lift_fresh_copy", "aten::lift_fresh"),
    *("aten::zeros_like", "aten::native_dropout", "aten::dropout", "aten::_prelu_kernel"),
    *("aten::detach", "aten::to", "aten::_conj", "aten::rrelu_with_noise", "aten::alpha_dropout"),
    *(
        "aten::feature_dropout",
        "aten::resolve_conj",
        "aten::resolve_neg",
        "aten::_neg_view",
        "aten::_autocast_to_reduced_precision",
    ),
)
def same(op: Op) -> None:
    """x: [*a] -> [*a]"""
    name, source = bare(op.name), op.tensors()[0]
    blank = name == "zeros_like" or (is_blank(source) and name in COPIES)
    if name in ("alias", "detach", "to"):  # `x.to(y)`: only the dtype of y is used
        typed = op.typed(source)
        op.result(typed.found(), typed.zero, at=typed.at, origins=typed.origins)
    else:
        pointwise(op)
    if blank:
        mark_blank(op.outs[0])


@rule(
    *("aten::ones_like", "aten::full_like", "aten::empty_like", "aten::rand_like", "aten::randn_like"),
    *(
        "aten::randint_like",
        "aten::fill",
        "aten::zero",
        "aten::uniform",
        "aten::normal",
        "aten::bernoulli",
        "aten::exponential",
    ),
    *("aten::geometric", "aten::cauchy", "aten::log_normal", "aten::random"),
)
def like(op: Op) -> None:
    """x: [*a] -> [*a], independent of the values"""
    if op["size"] is None:
        pointwise(op)
    else:  # torch.normal(0.0, 1.0, size)
        factory(op)


@rule("aten::prelu")
def prelu(op: Op) -> None:
    """x: [n, c, *], w: [c] -> [n, c, *]; seen as one op in inference mode only"""
    x, w = op["self"], op["weight"]
    if w.numel() > 1:
        op.unify(op.dims(x)[1], op.dims(w)[0])
    op.role(w, 0, "shift")
    op.result(op.dims(x), op.zero(x))


@rule("aten::copy")
def copy(op: Op) -> None:
    """x: [*a], y: [*a] -> [*a], the values of y"""
    target = op["self"]
    dims = broadcast(op, [target, op["src"]], target)
    zero = [a and b for a, b in zip(op.zero(target), zeros(op, [target, op["src"]], dims), strict=True)]
    op.result(dims, zero)


@rule("aten::log_sigmoid_forward")
def log_sigmoid(op: Op) -> None:
    """x: [*a] -> [*a], and a buffer for its backward pass"""
    op.result(op.dims(op["self"]), [False] * op["self"].dim())
    op.result(op.fresh(op.outs[1].shape, "a buffer"), out=op.outs[1])


@rule("aten::glu")
def glu(op: Op) -> None:
    """x: [c + c] -> [c], the two halves tied unit by unit"""
    dims, zero = op.dims(op["self"]), op.zero(op["self"])
    dim = op.get("dim", -1) % len(dims)
    half = dims[dim].n // 2
    pieces = op.cut(dims[dim], [half, 2 * half])
    if pieces is None:
        return op.opaque("the two halves cannot be separated")
    op.unify(*pieces)
    dims[dim] = pieces[0]
    op.result(dims, zero)
