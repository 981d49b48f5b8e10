"""Ops that are opaque on purpose: they mix the units of a matrix, or depend on positions in a flattened tensor."""

from __future__ import annotations

from secateur.trace.op import Op
from secateur.trace.registry import rule


@rule(
    *(f"aten::{name}" for name in "linalg_matrix_exp linalg_inv_ex _linalg_solve_ex _linalg_svd linalg_qr".split()),
    *(f"aten::{name}" for name in "linalg_cholesky_ex _linalg_det _linalg_slogdet _linalg_eigh linalg_eig".split()),
    *(f"aten::{name}" for name in "linalg_lu_factor_ex linalg_solve_triangular linalg_pinv linalg_lstsq".split()),
)
def decomposition(op: Op) -> None:
    """Every element of the result depends on all rows and columns of a matrix"""
    op.opaque("a decomposition mixes the units of a matrix")


@rule(
    *(f"aten::{name}" for name in "take put masked_scatter trace diagonal_copy diagonal_scatter rot90".split()),
    *("aten::block_diag", "aten::segment_reduce"),
)
def by_place(op: Op) -> None:
    """The result depends on positions"""
    op.opaque("the position of a unit matters")


@rule("aten::nonzero_static", "aten::unique_consecutive")
def of_data(op: Op) -> None:
    """The result depends on values"""
    op.opaque("the result depends on values")


@rule("aten::multinomial")
def multinomial(op: Op) -> None:
    """p: [*, c] -> [*, k] indices of c, which is frozen"""
    dims, out = op.dims(op["self"]), op.outs[0]
    op.freeze(dims[-1], "units are sampled by index")
    op.result([*dims[:-1], *op.fresh(out.shape[-1:], "drawn")], [False] * out.dim())


@rule("aten::bucketize")
def bucketize(op: Op) -> None:
    """x: [*], bounds: [k] -> [*]; k is frozen"""
    op.freeze(op.dims(op["boundaries"])[0], "ordered bucket boundaries")
    op.result(op.dims(op["self"]), [False] * op.outs[0].dim())


@rule("aten::index_fill")
def index_fill(op: Op) -> None:
    """x: [a, b], i: [k] -> [a, b]; a is frozen"""
    x = op["self"]
    dims, at = op.dims(x), op["dim"] % max(x.dim(), 1)
    op.freeze(dims[at], "filled at positions that depend on data")
    for dim in op.dims(op["index"]):
        op.freeze(dim, "an index depends on data")
    nothing = isinstance(op["value"], (int, float)) and op["value"] == 0
    op.result(dims, [zero and nothing for zero in op.zero(x)])


@rule("aten::max_unpool2d", "aten::max_unpool3d")
def max_unpool(op: Op) -> None:
    """x: [n, c, *], places: [n, c, *] -> [n, c, *']"""
    x, places, out = op["self"], op["indices"], op.outs[0]
    lead = x.dim() - int(op.name[-2])
    for mine, other in zip(op.dims(x)[:lead], op.dims(places)[:lead], strict=True):
        op.unify(mine, other)
    for dim in (*op.dims(x)[lead:], *op.dims(places)[lead:]):
        op.freeze(dim, "spatial")
    op.result([*op.dims(x)[:lead], *op.fresh(out.shape[lead:], "spatial")], op.zero(x))
