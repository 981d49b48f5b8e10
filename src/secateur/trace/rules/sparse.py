"""Sparse tensors: what is computed from their entries, or holds entries, stays whole; products are in `linear`."""

from __future__ import annotations

from secateur.trace.op import Op
from secateur.trace.registry import rule


@rule(
    *("aten::_sparse_coo_tensor_with_dims_and_tensors", "aten::_sparse_coo_tensor_with_dims", "aten::to_sparse"),
    *(
        "aten::sparse_compressed_tensor",
        "aten::_sparse_compressed_tensor_unsafe",
        "aten::_to_sparse",
        "aten::_to_dense",
    ),
    *("aten::_to_sparse_csr", "aten::_to_sparse_csc", "aten::_to_sparse_bsr", "aten::_to_sparse_bsc", "aten::to_dense"),
    *(
        "aten::_coalesce",
        "aten::_coalesced",
        "aten::_indices",
        "aten::_values",
        "aten::indices",
        "aten::values",
        "aten::crow_indices",
    ),
    *("aten::col_indices", "aten::ccol_indices", "aten::row_indices", "aten::sparse_mask", "aten::_sparse_softmax"),
    *("aten::_sparse_log_softmax", "aten::_sparse_sum", "aten::_sparse_sparse_matmul", "aten::is_coalesced"),
    *("aten::_convert_indices_from_coo_to_csr", "aten::_convert_indices_from_csr_to_coo"),
)
def entries(op: Op) -> None:
    """x: [a, b], sparse or made so -> its entries, or another sparse tensor"""
    op.opaque("the entries of a sparse tensor are data")
