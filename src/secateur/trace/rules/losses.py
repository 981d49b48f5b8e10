"""Losses inside a model: elementwise, without reduction, averaged or summed."""

from __future__ import annotations

import torch

from secateur.terms import collapse
from secateur.trace.op import Op, bare
from secateur.trace.registry import rule
from secateur.trace.rules.pointwise import broadcast

DIFFERENCES = frozenset({"mse_loss", "smooth_l1_loss", "huber_loss"})  # zero if both are zero
NONE, MEAN = 0, 1  # of ATen's reductions; 2 is a sum


@rule(*(f"aten::{name}" for name in DIFFERENCES))
@rule("aten::binary_cross_entropy", "aten::binary_cross_entropy_with_logits", "aten::soft_margin_loss")
def elementwise(op: Op) -> None:
    """x: [*], y: [*] -> [*] or [], a mean or a sum"""
    tensors, reduction = op.tensors(), op.get("reduction", MEAN)
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
    nothing = bare(op.name) in DIFFERENCES
    zero = [nothing and all(_zero(op, t, d - len(shape)) for t in tensors) for d in range(len(shape))]
    if reduction == NONE:
        return op.result(broadcast(op, tensors, op.outs[0]), zero)
    named = [(name, value) for name, value in op.arguments.items() if isinstance(value, torch.Tensor)]
    for dim in range(-len(shape), 0):
        here = [(name, t) for name, t in named if t.dim() >= -dim and t.shape[dim] != 1]
        for _, tensor in here[1:]:
            op.unify(op.dims(here[0][1])[dim], op.dims(tensor)[dim])
        if here and (reduction == MEAN or not zero[dim]):
            term = op.dims(here[0][1])[dim]
            collapse(term)
            op.inexact(term, "a loss is computed over it", unsafe=reduction != MEAN)
            for name, _ in here:
                op.reads(name, dim)
    op.result([])


def _zero(op: Op, tensor: torch.Tensor, dim: int) -> bool:
    return tensor.dim() >= -dim and tensor.shape[dim] != 1 and op.zero(tensor)[dim]


@rule(
    *("aten::nll_loss_forward", "aten::nll_loss2d_forward", "aten::multi_margin_loss", "aten::_ctc_loss"),
    "aten::multilabel_margin_loss_forward",
)
def of_classes(op: Op) -> None:
    """Classes are identified by their index"""
    op.opaque("a loss identifies classes by their index")
