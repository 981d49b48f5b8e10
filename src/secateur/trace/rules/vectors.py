"""Vectors along one dimension: cross products, norms that are bounded, distances."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from secateur.terms import ONE, Term
from secateur.trace.op import Op
from secateur.trace.registry import rule
from secateur.trace.rules.pointwise import broadcast


@rule("aten::linalg_cross", "aten::cross")
def cross(op: Op) -> None:
    """x, y: [*, 3] -> [*, 3]; every term of the result is one component of x times one of y"""
    x, y, out = op["self"], op["other"], op.outs[0]
    dims = broadcast(op, [x, y], out)
    at = op.get("dim", -1) % out.dim()
    op.freeze(dims[at], "components of a cross product")
    op.result(dims, [d == at or _either(op, (x, y), d - out.dim()) for d in range(out.dim())])


def _either(op: Op, tensors: Sequence[torch.Tensor], dim: int) -> bool:
    """Return whether silenced units are zero in one of these."""
    return any(t.dim() >= -dim and t.shape[dim] != 1 and op.zero(t)[dim] for t in tensors)


@rule("aten::renorm")
def renorm(op: Op) -> None:
    """w: [a, *] -> [a, *]: slices along `dim` are scaled down to a norm, to which zeros add nothing"""
    source = op["self"]
    dims, zero = op.dims(source), op.zero(source)
    for d in range(len(dims)):
        if d != op["dim"] % len(dims) and not zero[d]:
            op.inexact(dims[d], "a norm is taken over it", unsafe=True)
            op.reads("self", d, out=d)
    at = op.typed(source).at
    bound = [place._replace(gain="") if place is not None else None for place in at] if at is not None else None
    op.result(dims, zero, at=bound)  # the op undoes a scaling of rows, so nothing is proportional to them


@rule("aten::dist")
def dist(op: Op) -> None:
    """x, y: [*] -> []: the norm of a difference, to which units that are zero in both add nothing"""
    x, y = op["self"], op["other"]
    count = max(x.dim(), y.dim())
    for dim in range(-count, 0):
        _measured(op, dim, (("self", x), ("other", y)))
    op.result([])


@rule("aten::_pdist_forward")
def pdist(op: Op) -> None:
    """x: [n, i] -> [n (n - 1) / 2]; n is frozen"""
    x = op["self"]
    op.freeze(op.dims(x)[0], "pairwise distances are taken over it")
    _measured(op, -1, (("self", x),))
    op.result(op.fresh(op.outs[0].shape, "pairwise distances"), [False])


def _measured(op: Op, dim: int, operands: Sequence[tuple[str, torch.Tensor]]) -> None:
    here = [(name, t) for name, t in operands if t.dim() >= -dim and t.shape[dim] != 1]
    terms: list[Term] = [op.dims(t)[dim] for _, t in here] or [ONE]
    for term in terms[1:]:
        op.unify(terms[0], term)
    if len(here) < len(operands) or not all(op.zero(t)[dim] for _, t in here):
        op.inexact(terms[0], "a distance is taken over it", unsafe=True)
        for name, _ in here:
            op.reads(name, dim)


@rule("aten::addr")
def addr(op: Op) -> None:
    """c: [a, b], x: [a], y: [b] -> [a, b]"""
    c, x, y = op["self"], op["vec1"], op["vec2"]
    terms, out = [op.dims(x)[0], op.dims(y)[0]], op.outs[0]
    made = [op.zero(x)[0], op.zero(y)[0]]
    for dim in range(-c.dim(), 0):
        if c.shape[dim] == out.shape[dim]:
            op.unify(terms[dim], op.dims(c)[dim])
    held = [c.dim() >= -d and c.shape[d] == out.shape[d] and op.zero(c)[d] for d in (-2, -1)]
    op.result(terms, [a and b for a, b in zip(made, held, strict=True)])
