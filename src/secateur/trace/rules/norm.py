"""Normalisations. Batch and instance norms treat each channel separately; the others take a mean over channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from secateur.plan.parts import Renorm
from secateur.terms import Cat, Term, axes, collapse, grain, merged
from secateur.trace.op import Op
from secateur.trace.registry import function_rule, rule
from secateur.trace.rules.linear import origins_of
from secateur.trace.typed import Place


@function_rule(F.batch_norm, "input running_mean running_var weight bias training momentum eps")
@rule(
    *("aten::native_batch_norm", "aten::_native_batch_norm_legit", "aten::_native_batch_norm_legit_no_training"),
    *("aten::cudnn_batch_norm", "aten::batch_norm", "aten::_batch_norm_with_update", "aten::_batch_norm_no_update"),
    *("aten::_native_batch_norm_legit_functional", "aten::miopen_batch_norm", "aten::_batch_norm_impl_index"),
)
def batch_norm(op: Op) -> None:
    """x: [n, c, *], scale, shift, mean, variance: [c] -> [n, c, *]"""
    x = op["input"]
    for name, role in _BATCH_NORM.items():
        parameter = op[name]
        if isinstance(parameter, torch.Tensor) and parameter.numel() > 0:
            op.unify(op.dims(x)[1], op.dims(parameter)[0])
            op.role(parameter, 0, role)
    batch = bool(op.get("training", False)) or not isinstance(op["running_mean"], torch.Tensor)
    read = _over_places(op, "input", [d for d in range(x.dim()) if d != 1]) if batch else set()
    dims, zero = op.dims(x), op.zero(x)
    affine = op["weight"] is not None
    kept = batch and not affine  # a shift, by a bias or a running mean, makes zeros non-zero
    held = [affine or batch if i == 1 else i in read or (z and kept) for i, z in enumerate(zero)]
    op.result(dims, held, origins=origins_of(op, op["weight"], op["bias"], 1))
    for out in op.outs[1:]:
        op.result([dims[1]] if out.shape == (x.shape[1],) else op.fresh(out.shape, "statistics"), out=out)


_BATCH_NORM = {"weight": "scale", "bias": "shift", "running_mean": "statistic", "running_var": "statistic"}


def _over_places(op: Op, argument: str, places: Sequence[int]) -> set[int]:
    """Mark the dimensions that statistics are taken over; units in them (weight standardisation) must be kept ones."""
    read = set()
    for dim in places:
        term = op.dims(op[argument])[dim]
        if any(axis.frozen is None for axis in axes(term)):
            collapse(term)
            op.inexact(term, "a mean and variance are taken over it")
            op.reads(argument, dim, out=dim)
            read.add(dim)
    return read


@function_rule(F.instance_norm, "input running_mean running_var weight bias use_input_stats")
def instance_norm(op: Op) -> None:
    """x: [n, c, *], scale, shift: [c] -> [n, c, *]; a silenced channel stays zero unless shifted"""
    x = op["input"]
    for name, role in _BATCH_NORM.items():
        parameter = op[name]
        if isinstance(parameter, torch.Tensor):
            op.unify(op.dims(x)[1], op.dims(parameter)[0])
            op.role(parameter, 0, role)
    own = op.get("use_input_stats", True)
    read = _over_places(op, "input", range(2, x.dim())) if own else set()
    kept = own and op["bias"] is None  # as in a batch norm
    op.result(op.dims(x), [i in read or (z and (i == 1 or kept)) for i, z in enumerate(op.zero(x))])


@function_rule(F.layer_norm, "input normalized_shape weight bias eps")
def layer_norm(op: Op) -> None:
    """x: [*, c], scale, shift: [c] -> [*, c]; mean and variance over c"""
    _over_last(op, "a mean and variance are taken over it")


@function_rule(F.rms_norm, "input normalized_shape weight eps")
def rms_norm(op: Op) -> None:
    """x: [*, c], scale: [c] -> [*, c]; mean square over c"""
    _over_last(op, "a mean square is taken over it")


def _over_last(op: Op, text: str) -> None:
    x = op["input"]
    count = len(op["normalized_shape"])
    for name, role in (("weight", "scale"), ("bias", "shift")):
        parameter = op[name]
        if parameter is not None:
            for dim in range(count):
                op.unify(op.dims(x)[dim - count], op.dims(parameter)[dim])
                op.role(parameter, dim, role)
    for dim in range(-count, 0):
        term = op.dims(x)[dim]
        collapse(term)
        op.inexact(term, text)
        op.reads("input", dim, out=dim)
        for name in ("weight", "bias"):
            if op[name] is not None:
                op.reads(name, count + dim)
    op.resizes("normalized_shape", *op.dims(x)[-count:])
    affine = op["weight"] is not None and op["bias"] is not None
    zero = op.zero(x)
    held = [*(z and op["bias"] is None for z in zero[:-count]), *[affine or op["bias"] is None] * count]
    origins = origins_of(op, op["weight"], op["bias"], -1) if count == 1 else ()
    op.result(op.dims(x), held, origins=origins)


@function_rule(F.group_norm, "input num_groups weight bias eps")
def group_norm(op: Op) -> None:
    """x: [n, g*c, *], scale, shift: [g*c] -> [n, g*c, *]; mean and variance over c and *"""
    x, groups = op["input"], int.__index__(op["num_groups"])
    for name, role in (("weight", "scale"), ("bias", "shift")):
        if op[name] is not None:
            op.unify(op.dims(x)[1], op.dims(op[name])[0])
            op.role(op[name], 0, role)
    counted = _in_groups(op, op.dims(x)[1], groups)
    if counted is None:
        return op.opaque("the groups do not divide the channels")
    op.reads("input", 1, out=1)
    read = _over_places(op, "input", range(2, x.dim()))
    for name in ("weight", "bias"):
        if op[name] is not None:
            op.reads(name, 0)
    for term in counted:
        op.resizes("num_groups", term)
    plain = op["bias"] is None
    affine = op["weight"] is not None and not plain
    held = [affine if i == 1 else i in read or (z and plain) for i, z in enumerate(op.zero(x))]
    op.result(op.dims(x), held)


def _in_groups(op: Op, channels: Term, groups: int) -> list[Term] | None:
    """Divide channels into equal groups; return the terms that count them, or None if the channels do not divide.

    Where a group is made of the end of one part of a concatenation and the start of the next, no group can be removed:
    all parts are divided into pieces that each lie inside one group. Every piece keeps equally many units, its own
    ones, so that the groups stay where they are.
    """
    channels, row = merged(channels), channels.n // groups
    piece = grain(channels, row)
    parts = channels.parts if piece < row and isinstance(channels, Cat) else [channels]
    counts, pieces = [], []
    for part in parts:
        split = op.factor(part, [part.n // piece, piece])
        if split is None:
            return None
        counts.append(split[0])
        pieces.append(split[1])
    for own in pieces:
        op.same_size(pieces[0], own)
        if row > 1:
            op.inexact(own, "a mean and variance are taken over it")
    if piece == row:
        return counts
    for count in counts:
        op.freeze(count, "a group of the norm reaches across two parts of a concatenation")
    return []


@function_rule(torch._weight_norm, "v g dim")  # pyright: ignore[reportPrivateImportUsage]
def weight_norm(op: Op) -> None:
    """v: [o, *], g: [o] -> [o, *]: g v / |v|, each slice along `dim` by its own norm"""
    v, g, dim = op["v"], op["g"], op.get("dim", 0)
    dims = op.dims(v)
    of, gain = _parameter(op, v), _parameter(op, g)
    if dim < 0 or of is None or gain is None:
        return op.opaque("one norm is taken over the whole weight, or over a tensor that is not a parameter")
    op.unify(dims[dim], op.dims(g)[dim])
    op.role(g, dim, "scale")
    op.along = [g]
    op.recorder.note_renorm(Renorm(gain, of, dim), dims)
    scaled = gain if dim == 0 else ""
    op.result(op.dims(v), [True] * v.dim(), at=[Place(of, d, gain=scaled) for d in range(v.dim())])


def _parameter(op: Op, tensor: torch.Tensor) -> str | None:
    """Return the name of a tensor of the model, if this is one, unchanged and complete."""
    at = op.typed(tensor).at or []
    names = {place.name if place is not None else None for place in at}
    as_stored = all(place == Place(place.name, d) for d, place in enumerate(at) if place is not None)
    return names.pop() if len(names) == 1 and as_stored else None
