"""Ops that move dimensions and units without changing values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from secateur.terms import ONE, Axis, Term, axes, cat, find, pick, product, reshape
from secateur.trace.op import Op
from secateur.trace.registry import plain_form, rule
from secateur.trace.tracked_ints import plain
from secateur.trace.typed import Origins, Place, elsewhere, is_blank, mark_blank


def _carried(op: Op, source: torch.Tensor) -> Origins:
    """Return the origins of the source with this op as a further step."""
    origins = op.typed(source).origins
    if not origins or op.name not in _REPLAYABLE:
        return ()
    op.along = [source]
    arguments = tuple(v for k, v in op.arguments.items() if k not in ("self", "dtype"))
    return tuple(origin.then(op.name, *arguments) for origin in origins)


_REPLAYABLE = frozenset(
    f"aten::{name}"
    for name in (
        "view _unsafe_view permute transpose t unsqueeze squeeze expand select slice split split_with_sizes unbind"
    ).split()
)


def _result(op: Op, dims: Sequence[Term], zero: Sequence[bool], at: Sequence[Place | None] | None = None) -> None:
    op.result(dims, zero, at=at, origins=_carried(op, op["self"]))
    if at is not None:
        op.along = [op["self"]]  # still that parameter, whose readers are recorded
    if is_blank(op["self"]):
        mark_blank(op.outs[0])


@rule("aten::view", "aten::_unsafe_view", "aten::reshape", "aten::_reshape_alias")
def view(op: Op) -> None:
    """[a, b*c] -> [a*b, c]: the same units in the same order"""
    source, out = op["self"], op.outs[0]
    if op["dtype"] is not None and source.shape == out.shape:
        return op.result(op.dims(source), op.zero(source))
    terms = reshape(op.dims(source), list(out.shape), op.why(f"view as {list(out.shape)}"))
    loose = {axis for dim, held in zip(op.dims(source), op.zero(source), strict=True) if not held for axis in axes(dim)}
    _result(op, terms, [not loose or loose.isdisjoint(axes(term)) for term in terms])


@rule("aten::as_strided")
def as_strided(op: Op) -> None:
    """Handled only if it changes nothing"""
    source = op["self"]
    if source.shape == op.outs[0].shape:
        return op.result(op.dims(source), op.zero(source))
    op.opaque("as_strided")


@rule("aten::permute")
def permute(op: Op) -> None:
    """[a, b, c] -> [c, a, b]"""
    _move(op, [d % op["self"].dim() for d in op["dims"]])


@rule("aten::transpose")
def transpose(op: Op) -> None:
    """[a, b] -> [b, a]"""
    order = list(range(op["self"].dim()))
    if order:
        i, j = op["dim0"], op["dim1"]
        order[i], order[j] = order[j], order[i]
    _move(op, order)


@rule("aten::t", "aten::numpy_T")
def t(op: Op) -> None:
    """[a, b] -> [b, a]"""
    _move(op, list(range(op["self"].dim()))[::-1])


def _move(op: Op, order: Sequence[int]) -> None:
    typed = op.typed(op["self"])
    dims, at = typed.found(), typed.at
    moved = [at[i] for i in order] if at is not None else None
    _result(op, [dims[i] for i in order], [typed.zero[i] for i in order], moved)


@rule("aten::unsqueeze")
def unsqueeze(op: Op) -> None:
    """[a] -> [a, 1]"""
    typed = op.typed(op["self"])
    i = op["dim"] % (len(typed.dims) + 1)
    dims, zero, at = list(typed.dims), list(typed.zero), list(typed.at) if typed.at is not None else None
    dims.insert(i, ONE)
    zero.insert(i, True)
    if at is not None:
        at.insert(i, None)
    _result(op, dims, zero, at)


@rule("aten::squeeze")
def squeeze(op: Op) -> None:
    """[a, 1] -> [a]; dimensions longer than one must not shrink to one"""
    source, out = op["self"], op.outs[0]
    dims, zero = op.dims(source), op.zero(source)
    asked = op["dim"] if op["dim"] is not None else list(range(len(dims)))
    asked = [d % len(dims) for d in ([asked] if isinstance(asked, int) else asked)] if dims else []
    gone = [d for d in asked if dims[d].n == 1]
    for d in set(asked) - set(gone):
        op.recorder.keep_two(dims[d])
    kept = [i for i in range(len(dims)) if i not in gone]
    assert len(kept) == out.dim()
    _result(op, [dims[i] for i in kept], [zero[i] for i in kept])


@rule("aten::expand")
def expand(op: Op) -> None:
    """[1] -> [n], n a literal (until the caller's sizes say otherwise)"""
    dims, zero = op.dims(op["self"]), op.zero(op["self"])
    out = op.outs[0]
    pad = out.dim() - len(dims)
    terms = [ONE] * pad + dims
    widened = [n != 1 and term.n == 1 for term, n in zip(terms, out.shape, strict=True)]
    literal = op.recorder.reason(op.why("expanded to a literal size")) if any(widened) else None
    terms = [Axis(n, literal) if w else t for t, n, w in zip(terms, out.shape, widened, strict=True)]
    _result(op, terms, [True] * pad + zero)


@rule("aten::repeat")
def repeat(op: Op) -> None:
    """[a] -> [r*a], r a literal (until the caller's sizes say otherwise)"""
    dims, zero = op.dims(op["self"]), op.zero(op["self"])
    pad = op.outs[0].dim() - len(dims)
    terms: list[Term] = []
    for term, copies in zip([ONE] * pad + dims, op["repeats"], strict=True):
        terms.append(product([Axis(copies, "repeated a literal number of times"), term]) if copies != 1 else term)
    _result(op, terms, [True] * pad + zero)


@rule("aten::select")
def select(op: Op) -> None:
    """[a, b] -> [b]: one unit of a, so a is frozen"""
    dims, zero = op.dims(op["self"]), op.zero(op["self"])
    i = op["dim"] % len(dims)
    op.freeze(dims[i], "one unit is selected")
    _result(op, _picked(op, dims, i)[op["index"]], zero[:i] + zero[i + 1 :])


def _picked(op: Op, dims: Sequence[Term], i: int) -> list[list[Term]]:
    """Return the other dimensions for each unit of one; if units have their own axes, these keep equal sizes."""
    if dims[i].n == 1:
        return [[dim for j, dim in enumerate(dims) if j != i]]
    first, *rest = picked = pick(dims, i)
    for others in rest:
        for x, y in zip(first, others, strict=True):
            if find(x) is not find(y):
                op.same_size(x, y)
    return picked


@rule("aten::unbind")
def unbind(op: Op) -> None:
    """[a, b] -> a times [b]: every unit of a is a result, so a is frozen"""
    dims, zero = op.dims(op["self"]), op.zero(op["self"])
    i = op.get("dim", 0) % len(dims)
    op.freeze(dims[i], "split into single units")
    picked = _picked(op, dims, i)
    for k, out in enumerate(op.outs):
        op.result(picked[k], zero[:i] + zero[i + 1 :], out=out, origins=_piece(op, k))


def _piece(op: Op, k: int) -> Origins:
    return tuple(origin.then("piece", k) for origin in _carried(op, op["self"]))


@rule("aten::slice")
def slice_(op: Op) -> None:
    """[a + b + c] -> [b]"""
    dims, zero = op.dims(op["self"]), op.zero(op["self"])
    i = op.get("dim", 0) % len(dims)
    n, length = dims[i].n, op.outs[0].shape[i]
    if length == n:
        return _result(op, dims, zero)
    start = op.get("start", 0)
    start = max(0, min(start + n if start < 0 else start, n))
    if op.get("step", 1) != 1:
        return _strided(op, dims, zero, i)
    offsets = sorted({o for o in (start, start + length, n) if o > 0})
    pieces = op.cut(dims[i], offsets) if length else None
    if pieces is None:
        dims[i] = Axis(length, "a slice that cuts through units")
    else:
        dims[i] = pieces[0 if start == 0 else 1]
    _result(op, dims, zero, _shifted(op, i, start))


def _strided(op: Op, dims: list[Term], zero: list[bool], i: int) -> None:
    """[a, s] -> [a], one of the s in every step; if the step does not divide the size, a is frozen"""
    step, length = op["step"], op.outs[0].shape[i]
    even = dims[i].n == step * length and length > 1
    parts = op.factor(dims[i], [length, step]) if even else None
    if parts is None:
        op.freeze(dims[i], "a strided slice")
        dims[i] = Axis(length, "a strided slice")
    else:
        op.freeze(parts[1], "one unit of every step is taken")
        dims[i] = parts[0]
    _result(op, dims, zero)


@rule("aten::split", "aten::split_with_sizes", "aten::chunk", "aten::tensor_split", "aten::unsafe_split")
def split(op: Op) -> None:
    """[a + b] -> [a], [b]"""
    dims, zero = op.dims(op["self"]), op.zero(op["self"])
    i = op.get("dim", 0) % len(dims)
    ends, total = [], 0
    for out in op.outs:
        total += out.shape[i]
        ends.append(total)
    pieces = op.cut(dims[i], ends)
    for k, out in enumerate(op.outs):
        piece = pieces[k] if pieces is not None else Axis(out.shape[i], "a split that cuts through units")
        at = _shifted(op, i, ends[k] - out.shape[i])
        op.result([*dims[:i], piece, *dims[i + 1 :]], zero, out=out, at=at, origins=_piece(op, k))
        op.along = [op["self"]] if at is not None else op.along


def _shifted(op: Op, dim: int, start: int) -> list[Place | None] | None:
    """Return the places of a piece that begins at `start`."""
    at = op.typed(op["self"]).at
    if at is None:
        return None
    return [p._replace(start=p.start + start) if d == dim and p is not None else p for d, p in enumerate(at)]


@plain_form(torch.meshgrid)
def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[torch.Tensor, ...]:
    """Compute `torch.meshgrid` with sizes read from the tensors. tensors: (n,) or (), several or one list."""
    given: Sequence[torch.Tensor] = tensors[0] if isinstance(tensors[0], (tuple, list)) else tensors
    lines = [t.reshape([-1] + [1] * (len(given) - 1 - i)) for i, t in enumerate(given)]
    grids = broadcast_tensors(*lines)
    return tuple(grid.transpose(0, 1) for grid in grids) if indexing == "xy" and len(given) > 1 else grids


@plain_form(torch.broadcast_tensors)
def broadcast_tensors(*tensors: Any) -> tuple[torch.Tensor, ...]:
    """Compute `torch.broadcast_tensors` with sizes read from the tensors."""
    given: Sequence[torch.Tensor] = tensors[0] if isinstance(tensors[0], (tuple, list)) else tensors
    count = max(t.dim() for t in given)
    sizes = [[t.shape[d - count] for t in given if t.dim() >= count - d] for d in range(count)]
    shape = [next((n for n in found if plain(n) != 1), found[0]) for found in sizes]
    return tuple(t.expand(shape) for t in given)


@rule("aten::cat", "aten::concat")
def cat_(op: Op) -> None:
    """[a], [b] -> [a + b]"""
    out = op.outs[0]
    i = op.get("dim", 0) % out.dim()
    tensors = [t for t in op["tensors"] if t.dim() == out.dim()]
    dims = op.dims(tensors[0])
    for tensor in tensors[1:]:
        for d, (x, y) in enumerate(zip(dims, op.dims(tensor), strict=True)):
            if d != i:
                op.unify(x, y)
    dims[i] = cat(op.joined([op.dims(t)[i] for t in tensors]))
    op.result(dims, [all(flags) for flags in zip(*map(op.zero, tensors), strict=True)], origins=_joined(op, tensors, i))


def _joined(op: Op, tensors: Sequence[torch.Tensor], dim: int) -> Origins:
    """Return the origins of concatenated parts."""
    found = [op.origins(tensor) for tensor in tensors]
    if not any(found):
        return ()
    op.along = tensors
    start, size, joined = 0, sum(tensor.shape[dim] for tensor in tensors), []
    for tensor, origins in zip(tensors, found, strict=True):
        joined += [origin.then("placed", dim, start, size) for origin in origins or (elsewhere(tensor.shape),)]
        start += tensor.shape[dim]
    return tuple(joined)


@rule("aten::stack")
def stack(op: Op) -> None:
    """n times [a] -> [n, a]"""
    tensors = op["tensors"]
    dims = op.dims(tensors[0])
    for tensor in tensors[1:]:
        for x, y in zip(dims, op.dims(tensor), strict=True):
            op.unify(x, y)
    zero = [all(flags) for flags in zip(*map(op.zero, tensors), strict=True)]
    i = op.get("dim", 0) % (len(dims) + 1)
    many = len(tensors) > 1
    count: Term = Axis(len(tensors), op.recorder.reason(op.why("stacked tensors"))) if many else ONE
    found = [op.origins(tensor) for tensor in tensors]
    single = [o.then("aten::unsqueeze", i).then("placed", i, k, len(tensors)) for k, os in enumerate(found) for o in os]
    origins = tuple(single) if all(found) else ()
    op.along = tensors if origins else ()
    op.result([*map(find, dims[:i]), count, *dims[i:]], [*zero[:i], True, *zero[i:]], origins=origins)


@rule("aten::pixel_shuffle")
def pixel_shuffle(op: Op) -> None:
    """[c*r*r, h, w] -> [c, h*r, w*r], r a literal"""
    dims, zero, r = op.dims(op["self"]), op.zero(op["self"]), op["upscale_factor"]
    parts = op.factor(dims[-3], [dims[-3].n // (r * r), r, r])
    if parts is None:
        return op.opaque("pixel_shuffle")
    op.freeze(product(parts[1:]), "pixel_shuffle")
    out = op.outs[0]
    op.result([*dims[:-3], parts[0], *op.fresh(out.shape[-2:], "spatial")], zero)


@rule("aten::pixel_unshuffle")
def pixel_unshuffle(op: Op) -> None:
    """[c, h*r, w*r] -> [c*r*r, h, w], r a literal"""
    dims, zero, r = op.dims(op["self"]), op.zero(op["self"]), op["downscale_factor"]
    block = [Axis(r, "pixel_unshuffle"), Axis(r, "pixel_unshuffle")]
    out = op.outs[0]
    op.result([*dims[:-3], product([dims[-3], *block]), *op.fresh(out.shape[-2:], "spatial")], zero)


@rule("aten::channel_shuffle", "aten::native_channel_shuffle")
def channel_shuffle(op: Op) -> None:
    """[n, g*c, ...] -> [n, c*g, ...], g a literal"""
    dims, zero = op.dims(op["self"]), op.zero(op["self"])
    groups = op["groups"]
    parts = op.factor(dims[1], [groups, dims[1].n // groups])
    if parts is None:
        return op.opaque("channel_shuffle")
    op.freeze(parts[0], "channel_shuffle")
    dims[1] = product([parts[1], parts[0]])
    op.result(dims, zero)
