"""Bags of embeddings: rows chosen by data, and reduced by a sum, mean or maximum within each bag."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from secateur.trace.op import Op
from secateur.trace.registry import function_rule, rule

_PARAMETERS = (
    "input weight offsets max_norm norm_type scale_grad_by_freq mode sparse per_sample_weights include_last_offset "
    "padding_idx"
)


@function_rule(F.embedding_bag, _PARAMETERS)
def embedding_bag(op: Op) -> None:
    """ids: [b, n] or [n] with offsets: [b], w: [v, e], weights like ids -> [b, e]; v is frozen"""
    ids, weight = op["input"], op["weight"]
    if not isinstance(weight, torch.Tensor) or not weight.is_floating_point():
        return op.opaque("embedding_bag with its arguments in the deprecated order")
    if op["max_norm"] is not None:
        op.freeze(op.dims(weight)[1], "rows are rescaled by their norm in place (max_norm)")
    _bags(op, weight, ids)


@rule("aten::_embedding_bag", "aten::_embedding_bag_forward_only")
def aten_embedding_bag(op: Op) -> None:
    """w: [v, e], ids: [n], offsets: [b], weights: [n] -> [b, e], and values for the backward pass"""
    _bags(op, op["weight"], op["indices"])
    for out in op.outs[1:]:
        op.result(op.fresh(out.shape, "values saved for the backward pass"), out=out)


def _bags(op: Op, weight: torch.Tensor, ids: torch.Tensor) -> None:
    """Set the result: the maximum of zeros is zero too, so a silenced column is zero in every mode."""
    rows, width = op.dims(weight)
    op.freeze(rows, "embedding rows are chosen by data")
    for tensor in (ids, op["offsets"], op["per_sample_weights"]):
        for dim in op.dims(tensor)[1 if tensor is ids and ids.dim() == 2 else 0 :] if tensor is not None else ():
            op.freeze(dim, "the contents of a bag depend on data")
    samples = op["per_sample_weights"]
    if samples is not None:
        for x, y in zip(op.dims(ids), op.dims(samples), strict=True):
            op.unify(x, y)
    op.role(weight, 0, "input")
    op.role(weight, 1, "output")
    bags = (
        op.dims(ids)[0] if ids.dim() == 2 else op.fresh(op.outs[0].shape[:1], "the contents of a bag depend on data")[0]
    )
    op.result([bags, width], [False, op.zero(weight)[1]])
