"""Reductions. A sum over silenced units that are still zero is exact; a mean divides by their count."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from secateur.terms import EXPERT, ONE, Term, axes, collapse, loose, mingle
from secateur.trace.op import Op
from secateur.trace.registry import plain_form, rule

SUMS = frozenset({"sum", "linalg_vector_norm", "norm", "nansum", "count_nonzero"})
MEANS = frozenset({"mean", "var", "std", "var_mean", "std_mean"})


@rule(
    *("aten::sum", "aten::mean", "aten::var", "aten::std", "aten::var_mean", "aten::std_mean", "aten::amax"),
    *("aten::amin", "aten::max", "aten::min", "aten::argmin", "aten::linalg_vector_norm"),
    *("aten::norm", "aten::logsumexp", "aten::any", "aten::all", "aten::prod", "aten::median", "aten::nansum"),
    *("aten::aminmax", "aten::nanmedian", "aten::mode", "aten::count_nonzero", "aten::_is_all_true"),
    "aten::_is_any_true",
)
def reduction(op: Op) -> None:
    """x: [a, b] -> [a], or [a, 1]"""
    x = op["self"]
    dims, zero = op.dims(x), op.zero(x)
    reduced = _reduced(op, len(dims))
    for dim in reduced:
        _over(op, dim, dims[dim], zero[dim])
    zero = [False] * len(zero) if op.name == "aten::logsumexp" else zero  # log(exp(0) + exp(0)) is not zero
    for out in op.outs:
        if out.dim() == len(dims):
            op.result([ONE if d in reduced else t for d, t in enumerate(dims)], zero, out=out)
        else:
            kept = [d for d in range(len(dims)) if d not in reduced]
            op.result([dims[d] for d in kept], [zero[d] for d in kept], out=out)
        if op.name == "aten::sum" and len(reduced) == 1:
            op.typed(out).summed = dims[reduced[0]]


def _reduced(op: Op, count: int) -> list[int]:
    dim = op["dim"]
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return list(range(count))
    return [d % count for d in ([dim] if isinstance(dim, int) else dim)] if count else []


def _over(op: Op, dim: int, term: Term, zero: bool) -> None:
    """Mark the axes of a dimension that is reduced."""
    name = op.name.rpartition("::")[2].rstrip("_")
    if name in SUMS and zero and _order(op, name) >= 0:
        return None
    if name.startswith("arg"):
        return op.freeze(term, "positions depend on data")
    collapse(term)
    op.inexact(term, f"a {name} is taken over it", unsafe=name not in MEANS)
    op.reads("self", dim)


def _order(op: Op, name: str) -> float:
    """Return the order of a norm; negative orders depend on the smallest values, which may be zeros."""
    order = op["ord" if name == "linalg_vector_norm" else "p"] if name in ("norm", "linalg_vector_norm") else None
    return 2.0 if order is None else float(order)


@rule("aten::_softmax", "aten::_log_softmax", "aten::softmax", "aten::log_softmax", "aten::_safe_softmax")
def softmax(op: Op) -> None:
    """x: [a, b] -> [a, b], normalised over b"""
    dims = op.dims(op["self"])
    if dims:
        dim = op["dim"] % len(dims)
        collapse(dims[dim])
        op.inexact(dims[dim], "a softmax is taken over it", unsafe=True)
        op.reads("self", dim, out=dim)
        op.recorder.attention.softmax(dims, dim)
    op.result(dims, [False] * len(dims))


@rule(
    *("aten::cumsum", "aten::cumprod", "aten::cummax", "aten::cummin", "aten::logcumsumexp", "aten::flip"),
    *("aten::triu", "aten::tril", "aten::roll"),
)
def along_positions(op: Op) -> None:
    """x: [a] -> [a], where the position of a unit matters: a is frozen

    Except for running counts over experts, which give the first row of each: a removed expert adds nothing to them.
    """
    dims, zero = op.dims(op["self"]), op.zero(op["self"])
    zero = [False] * len(zero) if op.name == "aten::logcumsumexp" else zero  # log(exp(0) + exp(0)) is not zero
    for dim in _positional(op, len(dims)):
        if not (op.name == "aten::cumsum" and zero[dim] and all(axis.kind == EXPERT for axis in axes(dims[dim]))):
            op.freeze(dims[dim], "the position of a unit matters")
        mingle(dims, dim)
        zero[dim] = zero[dim] and op.name != "aten::cumsum"
    for out in op.outs:
        op.result(dims, zero, out=out)


def _positional(op: Op, count: int) -> list[int]:
    if op.name.startswith(("aten::triu", "aten::tril")):
        return [count - 2, count - 1]
    asked = op["dims"] if op["dims"] is not None else op["dim"]
    if asked is None or (isinstance(asked, (tuple, list)) and not asked):
        return list(range(count))
    return [d % count for d in ([asked] if isinstance(asked, int) else asked)]


@rule("aten::sort", "aten::argsort", "aten::kthvalue")
def sort(op: Op) -> None:
    """x: [a] -> [k]: the order is data, so a is frozen"""
    dims = op.dims(op["self"])
    dim = op.get("dim", -1) % len(dims)
    op.freeze(dims[dim], "the order of units depends on data")
    for out in op.outs:
        terms = list(dims)
        if out.dim() == len(dims):
            terms[dim] = op.fresh([out.shape[dim]], "sorted")[0]
        else:
            del terms[dim]
        op.result(terms, [False] * len(terms), out=out)


@rule("aten::_cdist_forward", "aten::cdist", "aten::_euclidean_dist")
def cdist(op: Op) -> None:
    """x: [*, a, i], y: [*, b, i] -> [*, a, b]; units that are zero in both add nothing to a distance"""
    x, y = op["x1"], op["x2"]
    batch = [shared(op, [x, y], dim) for dim in range(-op.outs[0].dim(), -2)]
    term = shared(op, [x, y], -1)
    for axis in loose([*batch, term]):
        if axis in set(axes(term)):
            collapse(axis)
    for tensor in (x, y):
        mingle(op.dims(tensor), tensor.dim() - 1)
    if not (op.zero(x)[-1] and op.zero(y)[-1]):
        op.inexact(term, "a distance is taken over it", unsafe=True)
        op.reads("x1", -1)
        op.reads("x2", -1)
    op.result([*batch, op.dims(x)[-2], op.dims(y)[-2]], [False] * op.outs[0].dim())


def shared(op: Op, tensors: Sequence[torch.Tensor], dim: int) -> Term:
    """Return the term of a dimension that operands share; size one broadcasts."""
    terms = [op.dims(t)[dim] for t in tensors if t.dim() >= -dim and t.shape[dim] != 1]
    for term in terms[1:]:
        op.unify(terms[0], term)
    return terms[0] if terms else ONE


@plain_form(F.normalize)
def normalize(
    input: torch.Tensor,  # noqa: A002 - torch's name
    p: float = 2.0,
    dim: int = 1,
    eps: float = 1e-12,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute `F.normalize` with a broadcast norm instead of one expanded to a size. input: any shape."""
    return input / input.norm(p, dim, keepdim=True).clamp_min(eps)
