"""Indexing by tensors: the positions depend on data, so the indexed dimension is frozen.

A pick is the exception: if the model stores a list of positions in a buffer and only uses it as an index, the result
has its own units. They are pruned by removing positions from the list. The other positions stay valid, because the
indexed dimension is frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from secateur.terms import Term
from secateur.trace.indexing import index_items
from secateur.trace.op import Op
from secateur.trace.registry import function_rule, plainer, rule
from secateur.trace.rules.routing import numbers_of
from secateur.trace.typed import get, mark_blank


@function_rule(F.embedding, "input weight padding_idx")
def embedding(op: Op) -> None:
    """ids: [*], w: [v, e] -> [*, e]; v is frozen"""
    ids, w = op["input"], op["weight"]
    if not isinstance(w, torch.Tensor):
        return op.opaque("embedding")
    rows, width = op.dims(w)
    op.freeze(rows, "embedding rows are chosen by data")
    op.role(w, 1, "output")
    op.role(w, 0, "input")
    op.result([*op.dims(ids), width], [*_rows(ids), True])


@rule("aten::embedding")
def aten_embedding(op: Op) -> None:
    """w: [v, e], ids: [*] -> [*, e]; v is frozen"""
    rows, width = op.dims(op["weight"])
    op.freeze(rows, "embedding rows are chosen by data")
    op.result([*op.dims(op["indices"]), width], [*_rows(op["indices"]), True])


def _rows(ids: torch.Tensor) -> list[bool]:
    """Return zero flags for rows chosen by ids: all False, because a silenced id is 0 and still chooses a row."""
    return [False] * ids.dim()


@plainer(torch.Tensor.__getitem__)
def one_by_list(x: torch.Tensor, index: Any) -> tuple[torch.Tensor, Any]:
    """Rewrite `x[..., [k]]` as `x[..., k : k + 1]`, which shows the position."""
    items = index_items(index)
    if sum(isinstance(item, (list, torch.Tensor)) for item in items) == 1:
        items = tuple(_piece(item) if _is_number(item) else item for item in items)
    return x, items


def _is_number(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 1 and type(item[0]) is int


def _piece(item: list[int]) -> slice:
    return slice(item[0], item[0] + 1 if item[0] != -1 else None)


@rule("aten::index")
def index(op: Op) -> None:
    """x: [a, b], i: [*] -> [*, b]; a is frozen. A mask over [a, a'] selects rows. A list may be a pick, see below."""
    x = op["self"]
    lists = [(dim, tensor) for dim, tensor in enumerate(op["indices"]) if tensor is not None]
    if len(lists) == 1 and (picked := _picked(op, lists[0][1])) is not None:
        return _pick(op, lists[0][0], picked)
    dims, zero = op.dims(x), op.zero(x)
    used = _indexed(op, dims)
    kept = [d for d in range(len(dims)) if d not in used]
    picked = op.fresh(op.outs[0].shape[_front(used) :][: op.outs[0].dim() - len(kept)], "indexed by data")
    before, after = _around(used, kept)
    terms = [*(dims[d] for d in before), *picked, *(dims[d] for d in after)]
    op.result(terms, [*(zero[d] for d in before), *[True] * len(picked), *(zero[d] for d in after)])


def _indexed(op: Op, dims: Sequence[Term]) -> list[int]:
    """Return the indexed dimensions, after freezing them and the indices."""
    used, dim = [], 0
    for tensor in op["indices"]:
        count = tensor.dim() if tensor is not None and tensor.dtype in (torch.bool, torch.uint8) else 1
        if tensor is not None:
            used += range(dim, dim + count)
            _listed(op, tensor, *dims[dim : dim + count])
        dim += count
    return used


def _listed(op: Op, index: torch.Tensor, *terms: Term) -> None:
    """Freeze an index of numbers, or a mask, over the units of these dimensions."""
    for place in op.dims(index):
        op.freeze(place, "an index depends on data")
    for term in terms:
        _numbered(op, index, term)


def _numbered(op: Op, index: torch.Tensor, term: Term) -> None:
    """Freeze a dimension that is indexed by data, unless the index holds the numbers of its own units."""
    if not numbers_of(op, index, term):
        op.freeze(term, "indexed by data")


def _front(used: Sequence[int]) -> int:
    """Return the position of the new dimensions: that of the indexed ones, or 0 if those are not adjacent."""
    return used[0] if list(used) == list(range(used[0], used[-1] + 1)) else 0


def _around(used: Sequence[int], kept: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the dimensions before the new ones, and those after."""
    front = _front(used)
    return [d for d in kept if d < front], [d for d in kept if d >= front]


@rule("aten::index_put")
def index_put(op: Op) -> None:
    """x: [a, b], i: [*], y: [*, b] -> [a, b]; a is frozen"""
    x, y = op["self"], op["values"]
    dims, zero, held = op.dims(x), op.zero(x), op.zero(y)
    used = _indexed(op, dims)
    before, after = _around(used, [d for d in range(len(dims)) if d not in used])
    width = max(1 if t.dtype in (torch.bool, torch.uint8) else t.dim() for t in op["indices"] if t is not None)
    places = [*before, *[None] * width, *after]
    still = set(used)
    for place, term, flag in zip(reversed(places), reversed(op.dims(y)), reversed(held), strict=False):
        if place is None:
            op.freeze(term, "indexed by data")
        elif term.n != 1:
            op.unify(dims[place], term)
            still |= {place} if flag else set()
    op.result(dims, [z and d in still for d, z in enumerate(zero)])


@rule("aten::index_select")
def index_select(op: Op) -> None:
    """x: [a, b], i: [k] -> [k, b]; a is frozen, and so is k unless i is a buffer that is only used to pick"""
    dims, zero = op.dims(op["self"]), op.zero(op["self"])
    dim = op["dim"] % len(dims)
    if (picked := _picked(op, op["index"])) is not None:
        return _pick(op, dim, picked)
    _listed(op, op["index"], dims[dim])
    dims[dim] = op.fresh([op.outs[0].shape[dim]], "indexed by data")[0]
    op.result(dims, zero)


def _picked(op: Op, index: torch.Tensor) -> Term | None:
    """Return the term of a buffer of positions, if only picks have read it so far."""
    typed = get(index)
    if typed is None or typed.picks is None:
        return None
    typed.read = True
    for place in filter(None, typed.at or ()):
        op.recorder.reached.add(place.name)
        op.recorder.roles[(place.name, place.dim)] = "statistic"  # is sliced as well, but is not used to score units
    return typed.found()[0]


def _pick(op: Op, dim: int, picked: Term) -> None:
    """x: [a, b], i: [k] -> [k, b]; a is frozen. Removing a position from the list leaves no zero."""
    dims, zero = op.dims(op["self"]), op.zero(op["self"])
    op.freeze(dims[dim], "units are selected by position")
    dims[dim], zero[dim] = picked, False
    op.result(dims, zero)


@rule("aten::gather")
def gather(op: Op) -> None:
    """x: [a, b], i: [k, b] -> [k, b]; a is frozen"""
    dims = op.dims(op["self"])
    dim = op["dim"] % max(len(dims), 1)
    _numbered(op, op["index"], dims[dim])
    _beside(op, dim, [op["self"]], [op["index"]], "an index depends on data")
    op.result(op.dims(op["index"]), op.zero(op["self"]))


def _beside(op: Op, dim: int, whole: Sequence[torch.Tensor], listed: Sequence[torch.Tensor], why: str) -> None:
    """Unify the dimensions other than `dim`, whose units correspond, and freeze `dim` of the `listed` tensors.

    If sizes differ, the longer tensor is only used up to the size of the other, so that dimension is frozen in all.
    """
    for d, terms in enumerate(zip(*map(op.dims, (*whole, *listed)), strict=True)):
        if d != dim and all(term.n == terms[0].n for term in terms):
            for term in terms[1:]:
                op.unify(terms[0], term)
        else:
            for term in terms if d != dim else terms[len(whole) :]:
                op.freeze(term, why)


@rule(
    *("aten::arange", "aten::linspace", "aten::logspace", "aten::eye", "aten::randperm", "aten::tril_indices"),
    *("aten::triu_indices", "aten::bartlett_window", "aten::hann_window", "aten::range"),
    *("aten::fft_fftfreq", "aten::fft_rfftfreq"),
)
def positions(op: Op) -> None:
    """-> [n], where the position of a unit matters"""
    for out in op.outs:
        op.result(op.fresh(out.shape, "the position of a unit matters"), [False] * out.dim(), out=out)


@rule(
    *("aten::zeros", "aten::ones", "aten::full", "aten::empty", "aten::rand", "aten::randn", "aten::randint"),
    *("aten::new_zeros", "aten::new_ones", "aten::new_full", "aten::new_empty", "aten::scalar_tensor"),
    *("aten::empty_strided", "aten::new_empty_strided", "aten::empty_permuted", "aten::_efficientzerotensor"),
)
def factory(op: Op) -> None:
    """-> [n], n a literal (until the caller's sizes say otherwise)"""
    reason = op.recorder.reason(op.why("created with a literal size")) if op.outs and op.outs[0].dim() else None
    nothing = "zero" in op.name
    for out in op.outs:
        op.result(op.fresh(out.shape, reason), [nothing] * out.dim(), out=out)
        if nothing:
            mark_blank(out)


@rule("aten::_local_scalar_dense", "aten::is_same_size", "aten::_assert_async", "aten::_assert_tensor_metadata")
def silent(op: Op) -> None:
    """-> no tensor with dimensions"""


@rule("aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::repeat_interleave")
def data_dependent(op: Op) -> None:
    """-> a size that depends on data"""
    op.opaque("the size of the result depends on data")


@rule("aten::scatter", "aten::scatter_add", "aten::scatter_reduce")
def scatter(op: Op) -> None:
    """x: [a, b], i, y: [k, b] -> [a, b]; a is frozen"""
    x, index, values = op["self"], op["index"], op["src"]
    dims, zero = op.dims(x), op.zero(x)
    dim = op["dim"] % max(len(dims), 1)
    _numbered(op, index, dims[dim])
    listed = [tensor for tensor in (index, values) if isinstance(tensor, torch.Tensor)]
    _beside(op, dim, [x], listed, "written at positions that depend on data")
    held = op.zero(values) if isinstance(values, torch.Tensor) else [False] * len(dims)
    op.result(dims, [z and (d == dim or h) for d, (z, h) in enumerate(zip(zero, held, strict=True))])


@rule("aten::index_add", "aten::index_copy")
def index_add(op: Op) -> None:
    """x: [a, b], i: [k], y: [k, b] -> [a, b]; a is frozen"""
    x, values = op["self"], op["source"]
    dims, dim = op.dims(x), op["dim"] % max(x.dim(), 1)
    _listed(op, op["index"], dims[dim])
    _beside(op, dim, [x], [values], "written at positions that depend on data")
    op.result(dims, [z and (d == dim or h) for d, (z, h) in enumerate(zip(op.zero(x), op.zero(values), strict=True))])


@rule("aten::diagonal", "aten::diag_embed")
def placed(op: Op) -> None:
    """Values are written at fixed positions"""
    op.opaque("values are written at fixed positions")
