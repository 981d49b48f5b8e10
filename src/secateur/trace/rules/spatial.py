"""Pooling, interpolation and padding: channels pass through, positions in space are frozen."""

from __future__ import annotations

from secateur.terms import Axis, Term, cat, product
from secateur.trace.op import Op
from secateur.trace.registry import rule


@rule(
    *(
        f"aten::{name}{n}d"
        for name in ("avg_pool", "max_pool", "adaptive_avg_pool", "adaptive_max_pool")
        for n in (1, 2, 3)
    ),
    *(f"aten::_adaptive_avg_pool{n}d" for n in (2, 3)),
    *(f"aten::max_pool{n}d_with_indices" for n in (1, 2, 3)),
    *(f"aten::{name}{n}d" for name in ("upsample_nearest", "_upsample_nearest_exact") for n in (1, 2, 3)),
    *("aten::upsample_linear1d", "aten::upsample_bilinear2d", "aten::upsample_bicubic2d", "aten::upsample_trilinear3d"),
    *("aten::_upsample_bilinear2d_aa", "aten::_upsample_bicubic2d_aa", "aten::_upsample_lanczos2d_aa"),
    *(f"aten::{name}_pad{n}d" for name in ("reflection", "replication") for n in (1, 2, 3)),
    "aten::mkldnn_max_pool2d",
)
def spatial(op: Op) -> None:
    """x: [n, c, *] -> [n, c, *']"""
    x = op.tensors()[0]
    dims, zero = op.dims(x), op.zero(x)
    count = 3 if "3d" in op.name else 1 if "1d" in op.name else 2
    lead = len(dims) - count
    for place in dims[lead:]:
        op.freeze(place, "spatial")
    for out in op.outs:
        op.result([*dims[:lead], *op.fresh(out.shape[lead:], "spatial")], zero, out=out)


@rule("aten::fractional_max_pool2d")
def fractional(op: Op) -> None:
    """x: [n, c, *], samples: [n, c, d] -> [n, c, *']"""
    *lead, _, _ = op.dims(op["self"])
    *places, coordinates = op.dims(op["random_samples"])
    for term, mine in zip(reversed(lead), reversed(places), strict=False):
        op.unify(term, mine)
    op.freeze(coordinates, "coordinates in an image")
    spatial(op)


@rule("aten::grid_sampler_2d", "aten::grid_sampler_3d")
def grid_sampler(op: Op) -> None:
    """x: [n, c, *], grid: [n, *', d] -> [n, c, *']"""
    x, grid = op["input"], op["grid"]
    for place in [*op.dims(x)[2:], *op.dims(grid)[1:]]:
        op.freeze(place, "spatial")
    op.unify(op.dims(x)[0], op.dims(grid)[0])
    batch, channels = op.dims(x)[:2]
    op.recorder.attention.sampling(batch, channels)
    op.result([batch, channels, *op.fresh(op.outs[0].shape[2:], "spatial")], op.zero(x))


@rule("aten::constant_pad_nd", "aten::pad")
def constant_pad(op: Op) -> None:
    """[a] -> [p + a + q], p and q literals"""
    dims, zero = op.dims(op["self"]), op.zero(op["self"])
    filled = op["value"] in (None, 0, 0.0)
    pad = op["pad"]
    for k in range(len(pad) // 2):
        dim = len(dims) - 1 - k
        dims[dim] = _padded(op, dim, dims[dim], pad[2 * k], pad[2 * k + 1])
    op.result(dims, [z and filled for z in zero])


def _padded(op: Op, dim: int, term: Term, before: int, after: int) -> Term:
    if before == after == 0:
        return term
    if before < 0 or after < 0:
        op.freeze(term, "cropped by negative padding")
        return Axis(op.outs[0].shape[dim], "cropped by negative padding")
    parts: list[Term] = [Axis(before, "padding")] if before else []
    parts.append(term)
    if after:
        parts.append(Axis(after, "padding"))
    return cat(parts)


@rule("aten::im2col")
def im2col(op: Op) -> None:
    """x: [n, c, *] -> [n, c*k, l]"""
    dims, zero = op.dims(op["self"]), op.zero(op["self"])
    out = op.outs[0]
    window = op["kernel_size"][0] * op["kernel_size"][1]
    parts = [dims[-3], *op.fresh([window], "a window")]
    op.result([*dims[:-3], product(parts), *op.fresh(out.shape[-1:], "spatial")], [*zero[:-2], True])


@rule("aten::col2im")
def col2im(op: Op) -> None:
    """x: [n, c*k, l] -> [n, c, *]"""
    dims, zero = op.dims(op["self"]), op.zero(op["self"])
    out = op.outs[0]
    parts = op.factor(dims[-2], [out.shape[-3], dims[-2].n // out.shape[-3]])
    if parts is None:
        return op.opaque("col2im")
    op.freeze(parts[1], "a window")
    op.result([*dims[:-2], parts[0], *op.fresh(out.shape[-2:], "spatial")], [*zero[:-1], True, True])


@rule("aten::unfold")
def unfold(op: Op) -> None:
    """[a] -> [a', w]: windows along a, so a is frozen"""
    dims, zero = op.dims(op["self"]), op.zero(op["self"])
    dim = op["dimension"] % len(dims)
    op.freeze(dims[dim], "windows run along it")
    out = op.outs[0]
    dims[dim] = op.fresh([out.shape[dim]], "windows")[0]
    op.result([*dims, *op.fresh(out.shape[-1:], "a window")], [*zero, True])
