"""Linear layers and matrix products. `contract` handles every sum of products over an axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from secateur.terms import Axis, Term, axes, collapse, loose, mingle
from secateur.trace.op import Op
from secateur.trace.registry import function_rule, rule
from secateur.trace.typed import Origin, Origins, Place, elsewhere


def contract(op: Op, x: tuple[str, int], y: tuple[str, int], batch: Sequence[Term]) -> None:
    """Sum over a dimension of two operands, each as (argument, dim); `batch`: the other terms that both have.

    The axis stays exact if silenced units are zero in either operand.
    """
    sides = [(op[name], dim) for name, dim in (x, y)]
    terms = [op.dims(tensor)[dim] for tensor, dim in sides]
    for term in terms:
        for axis in loose([*batch, term]):
            if axis in set(axes(term)):
                collapse(axis)
    op.unify(*terms)
    op.mixes(*x, *y)
    op.mixes(*y, *x)
    for tensor, dim in sides:
        mingle(op.dims(tensor), dim % tensor.dim())
    if not any(op.zero(tensor)[dim] for tensor, dim in sides):
        op.inexact(terms[0], "units that are no longer zero are summed", unsafe=True)
        op.reads(*x)
        op.reads(*y)


def origins_of(op: Op, weight: torch.Tensor | None, bias: torch.Tensor | None, channel: int) -> Origins:
    """Return the origins of a layer's output: the rows of its weight and bias, along its dimension `channel`."""
    if weight is None:
        return ()
    op.along = [weight, bias]
    shape = tuple(op.outs[0].shape)
    channel %= len(shape)
    places: list[Place] = []
    more: Origins = ()
    for tensor in (weight, bias):
        at = op.typed(tensor).at if tensor is not None else None
        place = at[0].scaled if at is not None and at[0] is not None else None
        if place is not None:
            places.append(place)
        elif tensor is not None:
            spread = (1,) * channel + (shape[channel],) + (1,) * (len(shape) - channel - 1)
            found = op.origins(tensor) if tensor is bias else ()
            joined = [origin.then("aten::view", spread).then("broadcast", shape) for origin in found]
            more = (*more, *(joined or [elsewhere(shape)]))
    return (Origin(shape, channel, tuple(places)), *more) if places else more


@function_rule(F.linear, "input weight bias")
def linear(op: Op) -> None:
    """x: [*, i], w: [o, i], b: [o] -> [*, o]"""
    x, w, b = op["input"], op["weight"], op["bias"]
    if w.dim() != 2:
        return op.opaque("a linear layer with one output and no output dimension")
    contract(op, ("input", -1), ("weight", 1), [])
    out = op.dims(w)[0]
    if b is not None:
        op.unify(op.dims(b)[0], out)
    for tensor, dim, role in ((w, 0, "output"), (w, 1, "input"), (b, 0, "output")):
        op.role(tensor, dim, role)
    dims, zero = op.dims(x), op.zero(x)
    op.macs(*dims, op.dims(w)[0])
    rows = [flag and (b is None) for flag in zero[:-1]]
    made = op.zero(w)[0] and (b is None or op.zero(b)[0])  # False for a weight that is computed by exp, for example
    op.result([*dims[:-1], op.dims(w)[0]], [*rows, made], origins=origins_of(op, w, b, -1))


@function_rule(F.bilinear, "input1 input2 weight bias")
def bilinear(op: Op) -> None:
    """x: [*, i], y: [*, j], w: [o, i, j], b: [o] -> [*, o]"""
    x, y, w, b = op["input1"], op["input2"], op["weight"], op["bias"]
    for a, c in zip(op.dims(x)[:-1], op.dims(y)[:-1], strict=True):
        op.unify(a, c)
    contract(op, ("input1", -1), ("weight", 1), [])
    contract(op, ("input2", -1), ("weight", 2), [])
    if b is not None:
        op.unify(op.dims(b)[0], op.dims(w)[0])
    for tensor, dim, role in ((w, 0, "output"), (w, 1, "input"), (w, 2, "input"), (b, 0, "output")):
        op.role(tensor, dim, role)
    op.macs(*op.dims(x)[:-1], *op.dims(w))
    rows = [b is None and (p or q) for p, q in zip(op.zero(x)[:-1], op.zero(y)[:-1], strict=True)]
    op.result([*op.dims(x)[:-1], op.dims(w)[0]], [*rows, True], origins=origins_of(op, w, b, -1))


def _matrix_roles(op: Op, x: str, w: str) -> None:
    for name in (x, w):
        op.role(op[name], -2, "input" if name == w else "output")
        op.role(op[name], -1, "output" if name == w else "input")


@rule("aten::mm", "aten::bmm")
def mm(op: Op) -> None:
    """x: [*, a, i], y: [*, i, b] -> [*, a, b]"""
    _product(op, "self", "mat2")


@rule("aten::addmm", "aten::baddbmm", "aten::_sparse_addmm")
def addmm(op: Op) -> None:
    """c: [a, b], x: [a, i], y: [i, b] -> [a, b]"""
    first, second = ("mat1", "mat2") if "mat1" in op.arguments else ("batch1", "batch2")
    dims, zero = _matmul(op, first, second)
    bias = op["self"]
    for mine, term in zip(reversed(op.dims(bias)), reversed(dims), strict=False):
        if mine.n == term.n:
            op.unify(mine, term)
    op.role(bias, -1, "output")
    held = [True] * (len(dims) - bias.dim()) + op.zero(bias)
    wide = [False] * (len(dims) - bias.dim()) + [d.n != 1 for d in op.dims(bias)]
    op.result(dims, [z and h and w for z, h, w in zip(zero, held, wide, strict=True)])


def _product(op: Op, x: str, y: str) -> None:
    dims, zero = _matmul(op, x, y)
    op.result(dims, zero)


def _matmul(op: Op, x: str, y: str) -> tuple[list[Term], list[bool]]:
    """Return the terms and flags of `x @ y`, after unifying batch dimensions."""
    for a, b in zip(op.dims(op[x])[:-2], op.dims(op[y])[:-2], strict=True):
        op.unify(a, b)
    batch = op.dims(op[x])[:-2]
    contract(op, (x, -1), (y, -2), batch)
    _matrix_roles(op, x, y)
    xs, ys = op.dims(op[x]), op.dims(op[y])
    zx, zy = op.zero(op[x]), op.zero(op[y])
    op.macs(*_multiplied(op, x, y))
    op.recorder.attention.product([*xs[:-1], ys[-1]], xs[-1])
    return [*xs[:-1], ys[-1]], [*(a or b for a, b in zip(zx[:-2], zy[:-2], strict=True)), zx[-2], zy[-1]]


def _multiplied(op: Op, x: str, y: str) -> list[Term]:
    """Return what a product multiplies: of a sparse operand, the entries that it holds."""
    xs, ys = op.dims(op[x]), op.dims(op[y])
    if op[x].layout is not torch.strided:
        return [Axis(op[x]._nnz(), "entries of a sparse tensor"), ys[-1]]
    if op[y].layout is not torch.strided:
        return [*xs[:-1], Axis(op[y]._nnz(), "entries of a sparse tensor")]
    return [*xs, ys[-1]]


@function_rule(torch.sparse.mm, "mat1 mat2 reduce")
def sparse_mm(op: Op) -> None:
    """x: [a, i], sparse, y: [i, b] -> [a, b]; the products are summed, or their mean or an extreme is taken"""
    if op.get("reduce", "sum") != "sum":
        op.inexact(op.dims(op["mat1"])[1], f"a {op['reduce']} is taken over it", unsafe=True)
        op.reads("mat1", 1)
        op.reads("mat2", 0)
    _product(op, "mat1", "mat2")


@rule("aten::addbmm")
def addbmm(op: Op) -> None:
    """c: [a, b], x: [n, a, i], y: [n, i, b] -> [a, b], summed over n too"""
    dims, _ = _matmul(op, "batch1", "batch2")
    if not (op.zero(op["batch1"])[0] or op.zero(op["batch2"])[0]):
        op.inexact(dims[0], "units that are no longer zero are summed", unsafe=True)
        op.reads("batch1", 0)
        op.reads("batch2", 0)
    for mine, term in zip(reversed(op.dims(op["self"])), reversed(dims), strict=False):
        if mine.n == term.n:
            op.unify(mine, term)
    op.result(dims[1:], [False, False])


@rule("aten::addmv")
def addmv(op: Op) -> None:
    """c: [a], x: [a, i], y: [i] -> [a]"""
    contract(op, ("mat", -1), ("vec", 0), [])
    op.macs(*op.dims(op["mat"]))
    if op["self"].dim():
        op.unify(op.dims(op["self"])[0], op.dims(op["mat"])[0])
        op.role(op["self"], 0, "output")
    op.result(op.dims(op["mat"])[:1], [False])


@rule("aten::mv")
def mv(op: Op) -> None:
    """x: [a, i], y: [i] -> [a]"""
    contract(op, ("self", -1), ("vec", 0), [])
    op.macs(*op.dims(op["self"]))
    op.result(op.dims(op["self"])[:1], op.zero(op["self"])[:1])
    if op.typed(op["vec"]).at is not None:
        op.typed(op.outs[0]).weighed = op.dims(op["self"])[-1]


@rule("aten::dot", "aten::vdot")
def dot(op: Op) -> None:
    """x: [i], y: [i] -> []"""
    other = "tensor" if "tensor" in op.arguments else "other"
    _estimates(op, op["self"], op[other])
    _estimates(op, op[other], op["self"])
    contract(op, ("self", 0), (other, 0), [])
    op.result([])


def _estimates(op: Op, u: torch.Tensor, x: torch.Tensor) -> None:
    """Freeze the units of u W v with stored u and v, as in spectral norm: they do not fit a pruned W."""
    weighed = op.typed(x).weighed
    if weighed is not None and op.typed(u).at is not None:
        remedy = "" if op.recorder.mend() else "; torch.nn.utils.remove_spectral_norm(module) makes it a plain weight"
        for term in (*op.dims(u), weighed):
            op.freeze(term, f"a weight is divided by an estimate of its norm, which pruning would invalidate{remedy}")
