"""Convolutions of one to three dimensions: plain, grouped, depthwise, transposed, dilated; deformable ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from secateur.terms import Term, freeze, product
from secateur.trace.op import Op
from secateur.trace.registry import rule
from secateur.trace.rules.linear import contract, origins_of

STRADDLE = "its groups straddle the parts of its channels"


@rule("aten::convolution", "aten::_convolution", "aten::convolution_overrideable")
def convolution(op: Op) -> None:
    """x: [n, g*i, *], w: [g*o, i, *k], b: [g*o] -> [n, g*o, *]; transposed: w: [g*i, o, *k]

    Along a dimension with a kernel of 1 the layer is applied place by place, as a linear layer is: its units pass.
    """
    x, w, b = op["input"], op["weight"], op["bias"]
    channel = x.dim() - w.dim() + 1
    passing = _passing(op, channel)
    for kernel in op.dims(w)[2:]:
        freeze(kernel, "kernel size")
    for place in range(channel + 1, x.dim()):
        if place not in passing:
            freeze(op.dims(x)[place], "spatial")
    out = _grouped(op, channel) if op.get("groups", 1) > 1 else _plain(op, channel)
    _count(op, channel, passing)
    if b is not None:
        op.unify(op.dims(b)[0], out)
        op.role(b, 0, "output")
    dims = op.fresh(op.outs[0].shape, "spatial")
    dims[:channel] = op.dims(x)[:channel]
    dims[channel] = out
    for place in passing:
        dims[place] = op.dims(x)[place]
    origins = () if op["transposed"] else origins_of(op, w, b, channel)
    op.result(dims, _zero(op, channel, passing), origins=origins)


def _passing(op: Op, channel: int) -> list[int]:
    """Return the dimensions of the input along which every output element reads one place, its own."""
    x, w = op["input"], op["weight"]
    strides, paddings = op["stride"], op["padding"]
    if strides is None or paddings is None or any(op.get("output_padding", ())):
        return []
    count = w.dim() - 2
    steps = zip(w.shape[2:], _each(strides, count), _each(paddings, count), strict=True)
    places = range(channel + 1, x.dim())
    return [place for place, step in zip(places, steps, strict=True) if step == (1, 1, 0)]


def _each(values: Sequence[int], count: int) -> Sequence[int]:
    return values if len(values) == count else [*values] * count


@rule("torchvision::deform_conv2d")
def deformable(op: Op) -> None:
    """x: [n, d*c, *], offset: [n, d*k*2, *'], mask: [n, d*k, *'] -> [n, g*o, *'], else like a convolution"""
    (batch, channels), groups = op.dims(op["input"])[:2], op["offset_groups"]
    sampled = op.factor(channels, [groups, channels.n // groups])
    if sampled is not None:
        op.freeze(sampled[0], "each group of channels is sampled at its own positions")
    for name in ("offset", "mask") if op["use_mask"] else ("offset",):
        images, *places = op.dims(op[name])
        op.unify(batch, images)
        for term in places:
            op.freeze(term, "positions at which a deformable convolution samples")
    convolution(op)


def _plain(op: Op, channel: int) -> Term:
    w = op["weight"]
    inner, outer = (0, 1) if op["transposed"] else (1, 0)
    contract(op, ("input", channel), ("weight", inner), [])
    op.role(w, inner, "input")
    op.role(w, outer, "output")
    return op.dims(w)[outer]


def _grouped(op: Op, channel: int) -> Term:
    """Unify the groups of input and output, and the input channels that the weight stores once for all groups."""
    x, w, groups = op["input"], op["weight"], op["groups"]
    transposed = bool(op["transposed"])
    xs = _groups_of(op, op.dims(x)[channel], groups)
    ws = _groups_of(op, op.dims(w)[0], groups)
    op.unify(xs[0], ws[0])
    op.unify(xs[1], ws[1] if transposed else op.dims(w)[1])
    inner = 0 if transposed else 1
    if not transposed and w.shape[1] > 1:
        op.mixes("input", channel, "weight", 1, groups)
    if not (op.zero(x)[channel] or op.zero(w)[inner]):
        op.inexact(xs[1], "units that are no longer zero are summed", unsafe=True)
        op.reads("input", channel)
        op.reads("weight", inner)
    op.typed(w).groups = ws[0]
    op.role(w, 0, "output" if not transposed or w.shape[1] == 1 else "input")
    op.role(w, 1, "output" if transposed else "input")
    return product([ws[0], op.dims(w)[1]]) if transposed else op.dims(w)[0]


def _groups_of(op: Op, channels: Term, groups: int) -> list[Term]:
    """Return groups and channels per group. All groups stay if they straddle parts, and all channels if none can go."""
    sizes = [groups, channels.n // groups]
    found = op.factor(channels, sizes, STRADDLE)
    return found or op.fresh(sizes, op.recorder.reason(op.why(STRADDLE)))


def _zero(op: Op, channel: int, passing: Sequence[int]) -> list[bool]:
    """Return zero flags: a channel is zero if its weight and bias are; a computed weight may be non-zero throughout."""
    x, w, b = op["input"], op["weight"], op["bias"]
    makers = (0, 1) if op["transposed"] and op.get("groups", 1) > 1 else (1,) if op["transposed"] else (0,)
    made = all(op.zero(w)[dim] for dim in makers) and (b is None or op.zero(b)[0])
    passed = [zero and b is None for zero in op.zero(x)]
    places = [passed[place] if place in passing else True for place in range(channel + 1, x.dim())]
    return [*passed[:channel], made, *places]


def _count(op: Op, channel: int, passing: Sequence[int]) -> None:
    """Count one multiply-add per output element, input channel of its group and kernel element.

    For a transposed convolution: per input element, output channel of its group and kernel element.
    """
    w: torch.Tensor = op["weight"]
    source: torch.Tensor = op["input"] if op["transposed"] else op.outs[0]
    places = [n for place, n in enumerate(source.shape) if place > channel and place not in passing]
    elements = math.prod(places) * math.prod(w.shape[2:])
    passed = [op.dims(op["input"])[place] for place in (*range(channel), *passing)]
    op.macs(*passed, *op.fresh([elements], "spatial"), *op.dims(w)[:2])
