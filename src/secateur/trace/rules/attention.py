"""Attention: scaled dot-product attention as one op, and `nn.MultiheadAttention` in plain ops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from secateur.terms import Term
from secateur.trace.attention_scaling import Query
from secateur.trace.op import Op
from secateur.trace.registry import function_rule, plain_form
from secateur.trace.rules.linear import contract
from secateur.trace.rules.reduce import shared
from secateur.trace.tracked_ints import plain, uncounted


@function_rule(F.scaled_dot_product_attention, "query key value attn_mask dropout_p is_causal scale enable_gqa")
def scaled_dot_product_attention(op: Op) -> None:
    """q: [*b, n, d], k: [*b, m, d], v: [*b, m, e] -> [*b, n, e]; divides by the root of d"""
    q, k, v = op["query"], op["key"], op["value"]
    places = range(-op.outs[0].dim(), -2)
    batch = [_batch(op, place) for place in places]
    contract(op, ("query", -1), ("key", -1), batch)
    op.unify(op.dims(k)[-2], op.dims(v)[-2])
    op.freeze(op.dims(k)[-2], "a softmax is taken over it")
    _mask(op, [*batch, op.dims(q)[-2], op.dims(k)[-2]])
    op.recorder.attention.scores([*batch, *op.dims(k)[:-2]], op.dims(q)[-1], op.dims(v)[-1])
    if op["scale"] is None:
        op.recorder.queries.append(Query(op.dims(q)[-1], op.typed(q).origins, op.typed(k), op.recorder.where()))
        op.along = [q, k]
    op.macs(*batch, *op.dims(q)[-2:], op.dims(k)[-2])
    op.macs(*batch, op.dims(q)[-2], *op.dims(v)[-2:])
    silent = [_silent(op, place, term) for place, term in zip(places, batch, strict=True)]
    op.result([*batch, op.dims(q)[-2], op.dims(v)[-1]], [*silent, False, op.zero(v)[-1]])


def _batch(op: Op, place: int) -> Term:
    """Unify the heads of queries and keys; with grouped queries, each key head serves several query heads."""
    heads, those = shared(op, [op["query"]], place), shared(op, [op["key"], op["value"]], place)
    if heads.n == 1 or those.n == 1:
        return those if heads.n == 1 else heads
    parts = op.factor(heads, [those.n, heads.n // those.n])
    if parts is None:
        op.freeze(those, "the query heads do not divide into one group per key head")
    else:
        op.unify(parts[0], those)
    return heads


def _silent(op: Op, place: int, term: Term) -> bool:
    """Return whether silenced units output zeros: if their values are zero, not if only their queries are."""
    v = op["value"]
    return v.dim() >= -place and v.shape[place] == term.n and op.zero(v)[place]


def _mask(op: Op, wanted: Sequence[Term]) -> None:
    mask = op["attn_mask"]
    if not isinstance(mask, torch.Tensor):
        return
    for term, mine in zip(reversed(wanted), reversed(op.dims(mask)), strict=False):
        if term.n == mine.n:
            op.unify(term, mine)


@plain_form(F.multi_head_attention_forward)
def multi_head_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: torch.Tensor | None,
    in_proj_bias: torch.Tensor | None,
    bias_k: torch.Tensor | None,
    bias_v: torch.Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: torch.Tensor,
    out_proj_bias: torch.Tensor | None,
    training: bool = True,
    key_padding_mask: torch.Tensor | None = None,
    need_weights: bool = True,
    attn_mask: torch.Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: torch.Tensor | None = None,
    k_proj_weight: torch.Tensor | None = None,
    v_proj_weight: torch.Tensor | None = None,
    static_k: torch.Tensor | None = None,
    static_v: torch.Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Any:
    """Compute `F.multi_head_attention_forward` in traceable ops. query: (L, N, E), key and value: (S, N, E).

    Returns `NotImplemented` for static keys, which are opaque.
    """
    if static_k is not None or static_v is not None:
        return NotImplemented
    assert query.shape[-1] == embed_dim_to_check
    batched = query.dim() == 3
    if not batched:
        query, key, value = (x.unsqueeze(1) for x in (query, key, value))
        key_padding_mask = key_padding_mask.unsqueeze(0) if key_padding_mask is not None else None
    if use_separate_proj_weight:
        weights: Any = (q_proj_weight, k_proj_weight, v_proj_weight)
    else:
        assert in_proj_weight is not None
        weights = in_proj_weight.chunk(3)
    biases: Any = in_proj_bias.chunk(3) if in_proj_bias is not None else (None, None, None)
    inputs = zip((query, key, value), weights, biases, (None, bias_k, bias_v), strict=True)
    q, k, v = (_heads(_longer(F.linear(x, w, b), row), num_heads) for x, w, b, row in inputs)
    if add_zero_attn:
        k, v = (F.pad(x, (0, 0, 0, 1)) for x in (k, v))
    mask = _merged_mask(attn_mask, key_padding_mask, query, num_heads)
    if mask is not None:
        mask = F.pad(mask, (0, k.shape[-2] - mask.shape[-1]))
    out = F.scaled_dot_product_attention(q, k, v, mask, dropout_p if training else 0.0, is_causal and mask is None)
    length, batch = query.shape[0], query.shape[1]
    out = out.permute(2, 0, 1, 3).reshape(length, batch, embed_dim_to_check)
    out = F.linear(out, out_proj_weight, out_proj_bias)
    with uncounted():
        weights_out = _weights(q, k, mask, average_attn_weights) if need_weights else None
    if not batched:
        out = out.squeeze(1)
        weights_out = weights_out.squeeze(0) if weights_out is not None else None
    return out, weights_out


def _longer(x: torch.Tensor, row: torch.Tensor | None) -> torch.Tensor:
    """Append one key or value, the same for the whole batch. x: (S, N, E), row: (1, 1, E)."""
    return x if row is None else torch.cat([x, row.expand(-1, x.shape[1], -1)])


def _heads(x: torch.Tensor, num_heads: int) -> torch.Tensor:
    """(L, N, E) -> (N, H, L, E/H)"""
    return x.unflatten(-1, (num_heads, -1)).permute(1, 2, 0, 3)


def _merged_mask(
    attn_mask: torch.Tensor | None, padding: torch.Tensor | None, query: torch.Tensor, num_heads: int
) -> torch.Tensor | None:
    """Return both masks as one additive float mask that broadcasts to (N, H, L, S)."""
    masks = []
    if attn_mask is not None:
        if attn_mask.dim() == 3:
            attn_mask = attn_mask.unflatten(0, (-1, num_heads))
        masks.append(_additive(attn_mask, query.dtype))
    if padding is not None:
        masks.append(_additive(padding[:, None, None, :], query.dtype))
    return sum(masks[1:], masks[0]) if masks else None


def _additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, float("-inf"))


def _weights(q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None, average: bool) -> torch.Tensor:
    """Return the attention weights, (N, L, S) or (N, H, L, S). The query is scaled already."""
    scores = q @ k.transpose(-1, -2) * plain(q.shape[-1]) ** -0.5
    weights = (scores if mask is None else scores + mask).softmax(-1)
    return weights.mean(1) if average else weights
