"""Indexing by tensors: the positions depend on data, so the indexed dimension stays whole.

A pick is the exception: where the model holds a list of positions, a buffer, and does nothing with it but index, what
is picked has units of its own. They go by taking positions off the list. The positions that stay mean what they meant,
since what they are picked from stays whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from secateur.terms import Term
from secateur.trace.op import Op
from secateur.trace.registry import function_rule, plainer, rule
from secateur.trace.rules.routing import numbers_of
from secateur.trace.typed import get, mark_blank


@function_rule(F.embedding, "input weight padding_idx")
def embedding(op: Op) -> None:
    """ids: [*], w: [v, e] -> [*, e]; v stays whole"""
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
    """w: [v, e], ids: [*] -> [*, e]; v stays whole"""
    rows, width = op.dims(op["weight"])
    op.freeze(rows, "embedding rows are chosen by data")
    op.result([*op.dims(op["indices"]), width], [*_rows(op["indices"]), True])


def _rows(ids: torch.Tensor) -> list[bool]:
    """A number that is silenced is 0, and chooses a row all the same."""
    return [False] * ids.dim()


@plainer(torch.Tensor.__getitem__)
def one_by_list(x: torch.Tensor, index: Any) -> tuple[torch.Tensor, Any]:
    """`x[..., [k]]` picks the same as `x[..., k : k + 1]`, which says where."""
    items = index if isinstance(index, tuple) else (index,)
    if sum(isinstance(item, (list, torch.Tensor)) for item in items) != 1:
        return x, index
    return x, tuple(_piece(item) if _is_number(item) else item for item in items)


def _is_number(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 1 and type(item[0]) is int


def _piece(item: list[int]) -> slice:
    return slice(item[0], item[0] + 1 if item[0] != -1 else None)


@rule("aten::index")
def index(op: Op) -> None:
    """x: [a, b], i: [*] -> [*, b]; a stays whole. A mask over [a, a'] selects rows. A list may pick, as below."""
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
    """The dimensions that the indices speak of; these stay whole, and so do the indices."""
    used, dim = [], 0
    for tensor in op["indices"]:
        count = tensor.dim() if tensor is not None and tensor.dtype in (torch.bool, torch.uint8) else 1
        if tensor is not None:
            used += range(dim, dim + count)
            _listed(op, tensor, *dims[dim : dim + count])
        dim += count
    return used


def _listed(op: Op, index: torch.Tensor, *terms: Term) -> None:
    """A list of numbers, or a mask, of the units of these dimensions: it stays as long as it is."""
    for place in op.dims(index):
        op.freeze(place, "an index depends on data")
    for term in terms:
        _numbered(op, index, term)


def _numbered(op: Op, index: torch.Tensor, term: Term) -> None:
    """A dimension stays whole where it is indexed by data, but for numbers of its own units."""
    if not numbers_of(op, index, term):
        op.freeze(term, "indexed by data")


def _front(used: Sequence[int]) -> int:
    """Where the picked dimensions stand: in place of the indexed ones, or first if those do not lie side by side."""
    return used[0] if list(used) == list(range(used[0], used[-1] + 1)) else 0


def _around(used: Sequence[int], kept: Sequence[int]) -> tuple[list[int], list[int]]:
    """The dimensions before the picked ones, and those behind."""
    front = _front(used)
    return [d for d in kept if d < front], [d for d in kept if d >= front]


@rule("aten::index_put")
def index_put(op: Op) -> None:
    """x: [a, b], i: [*], y: [*, b] -> [a, b]; a stays whole"""
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
    """x: [a, b], i: [k] -> [k, b]; a stays whole, and so does k unless i is a buffer that does nothing but pick"""
    dims, zero = op.dims(op["self"]), op.zero(op["self"])
    dim = op["dim"] % len(dims)
    if (picked := _picked(op, op["index"])) is not None:
        return _pick(op, dim, picked)
    _listed(op, op["index"], dims[dim])
    dims[dim] = op.fresh([op.outs[0].shape[dim]], "indexed by data")[0]
    op.result(dims, zero)


def _picked(op: Op, index: torch.Tensor) -> Term | None:
    """What a buffer of positions lists, as long as nothing but picks has read it."""
    typed = get(index)
    if typed is None or typed.picks is None:
        return None
    typed.read = True
    for place in filter(None, typed.at or ()):
        op.recorder.reached.add(place.name)
        op.recorder.roles[(place.name, place.dim)] = "statistic"  # goes along, and is no value to be judged by
    return typed.found()[0]


def _pick(op: Op, dim: int, picked: Term) -> None:
    """x: [a, b], i: [k] -> [k, b]; a stays whole. A position that is taken off the list leaves no zero behind."""
    dims, zero = op.dims(op["self"]), op.zero(op["self"])
    op.freeze(dims[dim], "units are selected by position")
    dims[dim], zero[dim] = picked, False
    op.result(dims, zero)


@rule("aten::gather")
def gather(op: Op) -> None:
    """x: [a, b], i: [k, b] -> [k, b]; a stays whole"""
    dims = op.dims(op["self"])
    dim = op["dim"] % max(len(dims), 1)
    _numbered(op, op["index"], dims[dim])
    _beside(op, dim, [op["self"]], [op["index"]], "an index depends on data")
    op.result(op.dims(op["index"]), op.zero(op["self"]))


def _beside(op: Op, dim: int, whole: Sequence[torch.Tensor], listed: Sequence[torch.Tensor], why: str) -> None:
    """The dimensions other than `dim`, where units are read or written side by side; along `dim` lists stay whole.

    A tensor that is longer than another is read or written up to the other's length only, so all of them stay.
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
    """Nothing that has dimensions comes out"""


@rule("aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim")
def data_dependent(op: Op) -> None:
    """How many come out is data"""
    op.opaque("the size of the result depends on data")


@rule("aten::scatter", "aten::scatter_add", "aten::scatter_reduce")
def scatter(op: Op) -> None:
    """x: [a, b], i, y: [k, b] -> [a, b]; a stays whole"""
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
    """x: [a, b], i: [k], y: [k, b] -> [a, b]; a stays whole"""
    x, values = op["self"], op["source"]
    dims, dim = op.dims(x), op["dim"] % max(x.dim(), 1)
    _listed(op, op["index"], dims[dim])
    _beside(op, dim, [x], [values], "written at positions that depend on data")
    op.result(dims, [z and (d == dim or h) for d, (z, h) in enumerate(zip(op.zero(x), op.zero(values), strict=True))])


@rule("aten::diagonal", "aten::diag_embed")
def placed(op: Op) -> None:
    """Values are put at places that count"""
    op.opaque("values are written at fixed positions")
