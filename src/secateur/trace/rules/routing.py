"""Routing: ops such as `topk` and `argmax` select units depending on data, and return indices of units of an axis.

Tensors of such indices are tracked (`Typed.numbers`): removing experts renumbers the others in the same order, so the
units of a weight that is indexed by them, or of a histogram of them, stay prunable. Any other computation with indices
freezes the axis.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from secateur.terms import EXPERT, ONE, Axis, Term, axes, cat, find, freeze, keep_at_least, keep_multiple, mark_kind
from secateur.trace.op import Op
from secateur.trace.registry import function_rule, in_double, rule
from secateur.trace.rules.linear import contract

_GROUPED = vars(torch)["_grouped_mm"]  # the function behind torch.nn.functional.grouped_mm
ALIGNED = 16  # bytes; rows of grouped products start at multiples of it
# Ops that return the same indices, moved or in another dtype.
FOLLOWED = frozenset(
    f"aten::{name}"
    for name in (
        "view _unsafe_view reshape permute transpose t unsqueeze squeeze expand clone contiguous detach alias "
        "_to_copy to select slice split split_with_sizes unbind index index_select sort"
    ).split()
)
# Ops whose result depends on the order of the indices at most, which is preserved.
ORDERED = frozenset({"aten::argsort"})


def follow(op: Op, tensor: torch.Tensor) -> None:
    """Propagate indices of units, or freeze their axis; called after the rule, for each operand that holds some."""
    numbers = op.typed(tensor).numbers
    if numbers is None or any(tensor is other for other in op.counted):
        return
    if op.name in FOLLOWED and tensor is op["self"]:
        for out in op.outs[:1] if op.name == "aten::sort" else op.outs:
            op.typed(out).numbers = numbers
    elif op.name not in ORDERED:
        op.freeze(numbers, "the index of a selected unit is used in arithmetic")


def numbers_of(op: Op, tensor: torch.Tensor, term: Term) -> bool:
    """Return whether a tensor holds indices of the units of this term; if so, unify the two."""
    numbers = op.typed(tensor).numbers
    if numbers is None or find(numbers).n != term.n:
        return False
    op.unify(numbers, term)
    op.counted = [*op.counted, tensor]
    return True


def chosen(op: Op, dim: int, count: int, place: int) -> None:
    """Record that the `count` largest units of a dimension were selected; result `place` holds their indices."""
    term = op.dims(op["self"])[dim]
    for axis in axes(term):
        mark_kind(axis, EXPERT)
    keep_at_least(term, count)
    op.inexact(term, "its largest values are selected")
    op.reads("self", dim)
    op.recorder.reading().numbered[place] = term
    op.typed(op.outs[place]).numbers = term


@rule("aten::topk")
def topk(op: Op) -> None:
    """x: [e] -> [k], and k indices of e"""
    dims = op.dims(op["self"])
    dim = op.get("dim", -1) % len(dims)
    best = op.fresh([op.outs[0].shape[dim]], "selected values, in order")
    for out in op.outs:
        op.result([*dims[:dim], *best, *dims[dim + 1 :]], [False] * len(dims), out=out)
    chosen(op, dim, int.__index__(op["k"]), 1)


@rule("aten::argmax")
def argmax(op: Op) -> None:
    """x: [e] -> [], the index of one unit of e"""
    x = op["self"]
    dims, dim = op.dims(x), op["dim"]
    if dim is None:
        for term in dims:
            op.freeze(term, "positions depend on data")
        return op.result(op.fresh(op.outs[0].shape, "positions depend on data"))
    dim %= max(len(dims), 1)
    rest = [ONE] if op["keepdim"] else []
    op.result([*dims[:dim], *rest, *dims[dim + 1 :]])
    chosen(op, dim, 1, 0)


@function_rule(F.one_hot, "input num_classes")
def one_hot(op: Op) -> None:
    """n: [*] -> [*, e], one at the unit with that index"""
    tensor, out = op["input"], op.outs[0]
    numbers = op.typed(tensor).numbers
    extra = out.shape[-1] - find(numbers).n if numbers is not None else -1
    units: Term = Axis(out.shape[-1], "the position of a unit matters")
    if numbers is not None and extra >= 0:
        op.counted = [tensor]
        units = cat([numbers, Axis(extra, "no unit")])
    op.result([*op.dims(tensor), units], [*[False] * tensor.dim(), True])  # a silenced index refers to unit 0


@rule("aten::histc", "aten::bincount")
def histogram(op: Op) -> None:
    """n: [*] -> [e], how often each index occurs; those of removed units never do"""
    out = op.outs[0]
    for tensor in op.tensors():
        for dim in op.dims(tensor):
            op.freeze(dim, "values are counted")
    units = Axis(out.shape[0])
    if op["weights"] is not None or not numbers_of(op, op["self"], units):
        freeze(units, "how often values occur")
    op.result([units], [True])


@function_rule(_GROUPED, "mat_a mat_b offs bias out_dtype")
def grouped_mm(op: Op) -> None:
    """x: [t, i], w: [e, i, o], ends: [e] -> [t, o]: rows up to an end are multiplied by that expert's weight"""
    x, w, ends = op["mat_a"], op["mat_b"], op["offs"]
    if x.dim() != 2 or w.dim() != 3 or ends is None or op["bias"] is not None:
        return op.opaque("groups along a dimension that is summed")
    op.unify(op.dims(w)[0], op.dims(ends)[0])
    contract(op, ("mat_a", 1), ("mat_b", 1), [])
    freeze(op.dims(x)[0], op.why("rows are grouped"))
    for term in (op.dims(x)[1], op.dims(w)[2 if w.stride(2) == 1 else 1]):
        keep_multiple(term, max(ALIGNED // w.itemsize, 1))
    for dim, role in ((0, "output"), (1, "input"), (2, "output")):
        op.role(w, dim, role)
    op.macs(*op.dims(x), op.dims(w)[2])
    op.result([op.dims(x)[0], op.dims(w)[2]], [False, op.zero(w)[2]])


@in_double(_GROUPED)
def grouped_mm_in_double(x: torch.Tensor, w: torch.Tensor, *, offs: torch.Tensor, **_: Any) -> torch.Tensor:
    """x: (t, i), w: (e, i, o), offs: (e,) -> (t, o); rows past the last end are zero."""
    out = x.new_zeros(x.shape[0], w.shape[2])
    start = 0
    for expert, end in enumerate(offs.tolist()):
        out[start:end] = x[start:end] @ w[expert]
        start = end
    return out


@rule("transformers::grouped_mm_fallback")
def grouped_mm_fallback(op: Op) -> None:
    """grouped_mm where the kernel of PyTorch cannot run"""
    op.arguments = {"mat_a": op["input"], "mat_b": op["weight"], "offs": op["offs"]}
    grouped_mm(op)
