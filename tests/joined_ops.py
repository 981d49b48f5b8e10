"""Every op with a rule that takes two or more tensors, as `tests/trace/test_joined.py` tries it, or why it does not.

Letters of an op have sizes of their own. All are even and greater than two, so that each can be folded, but for
kernels, coordinates and the like.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from joined import Joined

A: Any = torch.ops.aten
T: Any = torch
JOINED: dict[str, Joined] = {}
# What leaves nothing free, whichever dimension is folded: values are data, or the result is as long as they say.
STAYS = {"gather_fewer", "scatter_fewer", "scatter_longer", "masked_select", "bincount", "weight_norm", "nms"}


def numbers(x: Tensor) -> Tensor:
    """Whole numbers from 0 to 5, 0 for 0."""
    return (x.relu().sqrt() * 2).long().clamp_max(5)


def add(name: str, call: Callable[..., Any], *shapes: tuple[int, ...]) -> None:
    assert name not in JOINED, name
    JOINED[name] = Joined(call, shapes)


def in_place(method: str, *rest: Any) -> Callable[..., Any]:
    """An in-place method on a copy of the first operand, which is given back."""
    return lambda x, *others: getattr(x * 1.0, method)(*others, *rest)


add("mm", A.mm, (8, 12), (12, 10))
add("mm_square", A.mm, (8, 8), (8, 8))
add("bmm", A.bmm, (8, 12, 16), (8, 16, 10))
add("bmm_square", A.bmm, (8, 8, 8), (8, 8, 8))
add("addmm", A.addmm, (8, 12), (8, 16), (16, 12))
add("addmm_row", A.addmm, (12,), (8, 16), (16, 12))
add("addmm_column", A.addmm, (8, 1), (8, 16), (16, 12))
add("addmm_", in_place("addmm_"), (8, 12), (8, 16), (16, 12))
add("baddbmm", A.baddbmm, (8, 12, 10), (8, 12, 16), (8, 16, 10))
add("baddbmm_shared", A.baddbmm, (1, 12, 10), (8, 12, 16), (8, 16, 10))
add("sparse_mm", lambda x, y: torch.sparse.mm(x.to_sparse(), y), (8, 16), (16, 12))
add("sparse_mm_mean", lambda x, y: torch.sparse.mm(x.to_sparse_csr(), y, "mean"), (8, 16), (16, 12))
add("sparse_addmm", lambda c, x, y: torch.sparse.addmm(c, x.to_sparse(), y), (8, 12), (8, 16), (16, 12))
add("rows_by_counts", lambda x, i: x.repeat_interleave(numbers(i), 0), (8, 12), (8,))
add("addbmm", A.addbmm, (12, 10), (8, 12, 16), (8, 16, 10))
add("addmv", A.addmv, (8,), (8, 12), (12,))
add("mv", A.mv, (8, 12), (12,))
add("dot", A.dot, (8,), (8,))
add("vdot", A.vdot, (8,), (8,))
add("linear", F.linear, (8, 10, 12), (16, 12), (16,))
add("bilinear", F.bilinear, (8, 12), (8, 16), (10, 12, 16), (10,))
add("matmul", torch.matmul, (8, 1, 12, 16), (10, 16, 14))
add("einsum", lambda *xs: torch.einsum("nh,hd,md->nm", *xs), (8, 12), (12, 16), (10, 16))
add("tensordot", lambda x, y: torch.tensordot(x, y, 2), (8, 12, 16), (12, 16, 10))
ENDS = torch.tensor([2, 4, 8, 12], dtype=torch.int32)
add("grouped_mm", lambda x, w: T._grouped_mm(x, w, offs=ENDS), (12, 16), (4, 16, 24))
add("cdist", torch.cdist, (8, 10, 12), (8, 16, 12))
add("cdist_shared", torch.cdist, (8, 10, 12), (1, 16, 12))
add("euclidean", lambda x, y: A._euclidean_dist(x, y).square(), (10, 12), (16, 12))


add("conv2d", F.conv2d, (8, 12, 4, 4), (10, 12, 2, 2), (10,))
add("conv2d_square", F.conv2d, (8, 8, 4, 4), (8, 8, 2, 2), (8,))
add("conv2d_one", F.conv2d, (12, 4, 4), (10, 12, 2, 2), (10,))
add("conv2d_groups", lambda *xs: F.conv2d(*xs, groups=4), (8, 16, 4, 4), (24, 4, 2, 2), (24,))
add("conv2d_depth", lambda *xs: F.conv2d(*xs, groups=16), (8, 16, 4, 4), (16, 1, 2, 2), (16,))
add("transposed", F.conv_transpose2d, (8, 12, 4, 4), (12, 16, 2, 2), (16,))
add("transposed_groups", lambda *xs: F.conv_transpose2d(*xs, groups=4), (8, 16, 4, 4), (16, 4, 2, 2), (16,))


NORM = (8, 12, 10, 4), (12,), (12,)
add("batch_norm", lambda x, w, b, m, v: F.batch_norm(x, *_running(m, v), w, b), *NORM, (12,), (12,))
add("batch_norm_plain", lambda x, m, v: F.batch_norm(x, *_running(m, v)), NORM[0], (12,), (12,))
add("batch_norm_trained", lambda x, w, b: F.batch_norm(x, None, None, w, b, True), *NORM)
add("native_batch_norm", lambda x, w, b: A.native_batch_norm(x, w, b, None, None, True, 0.1, 1e-5)[0], *NORM)
add("batch_norm_legit", lambda x, w, b: A._native_batch_norm_legit(x, w, b, True, 0.1, 1e-5)[0], *NORM)
add("instance_norm", lambda x, w, b: F.instance_norm(x, None, None, w, b), *NORM)
add("instance_norm_scaled", lambda x, w: F.instance_norm(x, None, None, w), *NORM[:2])
add(
    "instance_norm_running",
    lambda x, w, b, m, v: F.instance_norm(x, *_running(m, v), w, b, use_input_stats=False),
    *NORM,
    *NORM[1:],
)
add("layer_norm", lambda x, w, b: F.layer_norm(x, (x.shape[-1],), w, b), (8, 10, 12), (12,), (12,))
add("layer_norm_two", lambda x, w, b: F.layer_norm(x, x.shape[-2:], w, b), (8, 10, 12), (10, 12), (10, 12))
add("rms_norm", lambda x, w: F.rms_norm(x, (x.shape[-1],), w), (8, 10, 12), (12,))
add("group_norm", lambda *xs: F.group_norm(xs[0], 4, *xs[1:]), (8, 16, 10), (16,), (16,))
add("group_norm_scaled", lambda *xs: F.group_norm(xs[0], 4, *xs[1:]), (8, 16, 10), (16,))
add("group_norm_one", lambda *xs: F.group_norm(xs[0], 1, *xs[1:]), (8, 16, 10), (16,), (16,))
add("weight_norm", lambda v, g: T._weight_norm(v, g, 0), (8, 12), (8, 1))


def _running(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """A norm has no gradient for its running statistics."""
    return mean.detach(), var.detach().abs() + 1


HEADS = (4, 12, 10, 16), (4, 12, 14, 16), (4, 12, 14, 18)
GROUPED = (4, 24, 10, 16), (4, 8, 14, 16), (4, 8, 14, 18)
attention: Any = F.scaled_dot_product_attention
add("attention", attention, *HEADS)
add("attention_mask", attention, *HEADS, (4, 12, 10, 14))
add("attention_bias", attention, *HEADS, (12, 1, 14))
add(
    "attention_where", lambda q, k, v, m: attention(q, k, v, (m > 0) | (torch.arange(14) == 0)), *HEADS, (4, 12, 10, 14)
)
add("attention_grouped", lambda *xs: attention(*xs, enable_gqa=True), *GROUPED)
add("attention_grouped_mask", lambda *xs: attention(*xs, enable_gqa=True), *GROUPED, (4, 24, 1, 14))
add("attention_one_key", attention, HEADS[0], (1, 12, 14, 16), (4, 1, 14, 18))
add("attention_one_query", attention, (1, 12, 10, 16), *HEADS[1:])
add(
    "attention_module",
    lambda q, k, w, b, o: _attend(q, k, w, b, o),
    (10, 8, 16),
    (12, 8, 16),
    (48, 16),
    (48,),
    (16, 16),
)


def _attend(q: Tensor, k: Tensor, w: Tensor, b: Tensor, o: Tensor) -> Tensor:
    return F.multi_head_attention_forward(q, k, k, 16, 4, w, b, None, None, False, 0.0, o, None)[0]


def _layer(run: Any, x: Tensor, *rest: Tensor) -> Any:
    *states, w_ih, w_hh, b_ih, b_hh = rest
    held = states if len(states) > 1 else states[0]
    return run(x, held, (w_ih, w_hh, b_ih, b_hh), True, 1, 0.0, False, False, False)


def _cell(run: Any, x: Tensor, *rest: Tensor) -> Any:
    *states, w_ih, w_hh, b_ih, b_hh = rest
    return run(x, states if len(states) > 1 else states[0], w_ih, w_hh, b_ih, b_hh)


for _name, _gates in (("lstm", 4), ("gru", 3), ("rnn_tanh", 1), ("rnn_relu", 1)):
    _weights = (_gates * 16, 12), (_gates * 16, 16), (_gates * 16,), (_gates * 16,)
    _states = [(8, 16)] * (2 if _name == "lstm" else 1)
    add(_name, partial(_layer, vars(torch)[_name]), (4, 8, 12), *[(1, *state) for state in _states], *_weights)
    add(f"{_name}_cell", partial(_cell, vars(torch)[f"{_name}_cell"]), (8, 12), *_states, *_weights)


add("embedding", lambda w, i: F.embedding(numbers(i), w), (10, 12), (8, 16))
add("embedding_op", lambda w, i: A.embedding(w, numbers(i)), (10, 12), (8, 16))
add("one_hot", lambda i, y: F.one_hot(numbers(i), 8) * y, (10, 12), (8,))
add("index", lambda x, i: x[:, numbers(i)], (8, 10, 12), (8, 16))
add("index_two", lambda x, i, j: x[numbers(i), numbers(j)], (8, 8, 12), (12, 8), (12, 8))
add("index_apart", lambda x, i, j: x[numbers(i), :, numbers(j)], (8, 12, 8), (14, 1), (1, 10))
add("index_mask", lambda x, m: x[m > 0], (8, 12, 10), (8, 12))
add("index_put", lambda x, i, y: A.index_put(x, [None, numbers(i)], y, True), (12, 8, 16), (10,), (12, 10, 16))
add("index_put_rows", lambda x, i, y: A.index_put(x, [numbers(i)], y, True), (8, 12), (10,), (1, 12))
add("index_put_one", lambda x, i, y: A.index_put(x, [numbers(i)], y, True), (8, 12), (10,), (12,))
add("index_select", lambda x, i: x.index_select(0, numbers(i)), (8, 12), (10,))
add("index_add", lambda x, i, y: x.index_add(0, numbers(i), y), (8, 12), (10,), (10, 12))
add("index_add_", lambda x, i, y: (x * 1.0).index_add_(1, numbers(i), y), (12, 8), (8,), (12, 8))
add("index_copy", lambda x, i, y: x.index_copy(0, i.argsort(), y), (8, 12), (8,), (8, 12))
add("gather", lambda x, i: x.gather(1, numbers(i)), (12, 8), (12, 10))
add("gather_fewer", lambda x, i: x.gather(1, numbers(i)), (12, 8), (10, 10))
add("take_along_dim", lambda x, i: x.take_along_dim(numbers(i), 1), (12, 8), (12, 10))
add("scatter", lambda x, i, y: x.scatter(1, numbers(i), y), (12, 8), (12, 1), (12, 1))
add("scatter_add", lambda x, i, y: x.scatter_add(1, numbers(i), y), (12, 8), (12, 10), (12, 10))
add("scatter_add_", lambda x, i, y: (x * 1.0).scatter_add_(1, numbers(i), y), (12, 8), (12, 10), (12, 14))
add("scatter_fewer", lambda x, i, y: x.scatter_add(1, numbers(i), y), (12, 8), (10, 10), (10, 10))
add("scatter_longer", lambda x, i, y: x.scatter_add(1, numbers(i), y), (10, 8), (10, 10), (12, 10))
add("scatter_mean", lambda x, i, y: x.scatter_reduce(1, numbers(i), y, "mean"), (12, 8), (12, 10), (12, 10))
add("bincount", lambda i, w: torch.bincount(numbers(i), w, 6), (8,), (8,))
add("masked_select", lambda x, m: x[:, None].masked_select(m > 0), (8, 12), (8, 1, 12))


PAIR = (8, 12), (8, 12)
add("add", torch.add, (8, 12), (12,))
add("sub_", in_place("sub_"), (8, 12), (8, 1))
add("rsub", torch.rsub, *PAIR)
add("where", lambda m, x, y: torch.where(m > 0, x, y), (8, 1), (12,), (8, 12))
add("lerp", torch.lerp, *PAIR, (12,))
add("addcmul", torch.addcmul, (8, 12), (8, 1), (12,))
add("maximum", torch.max, *PAIR)
add("kron", torch.kron, *PAIR)
add("polar", lambda x, y: A.polar(x.abs(), y).abs(), *PAIR)
add("complex", lambda x, y: A.complex(x, y).abs(), *PAIR)
add("floor_divide", lambda x, y: A.floor_divide(x * 9, y.abs() + 1), *PAIR)
add("masked_fill", lambda x, m, v: x.masked_fill(m > 0, v.sum()), *PAIR, (10,))
add("prelu", F.prelu, (8, 12, 12), (12,))
add("rrelu", lambda x, y: A.rrelu_with_noise(x, y.detach()), *PAIR)
add("fill", lambda x, y: A.fill(x, y.sum()) * x, *PAIR)
add("copy", A.copy, (8, 12), (12,))
add("copy_", lambda x, y: _narrowed(x * 1.0, y), (8, 12), (4, 12))
add("normal", lambda m, s: torch.normal(m, s.abs() * 0), *PAIR)
add("bernoulli", lambda x, p: A.bernoulli(x, (p > 0).to(x)) * x, *PAIR)
add("cosine_similarity", lambda x, y: F.cosine_similarity(x, y, dim=1), (8, 12, 10), (8, 12, 10))


def _narrowed(x: Tensor, y: Tensor) -> Tensor:
    x.narrow(0, 0, 4).copy_(y)
    return x


add("cat", lambda *xs: torch.cat(xs, 1), (8, 12), (8, 10))
add("stack", lambda *xs: torch.stack(xs, 1), (8, 12), (8, 12))
add("logsumexp", lambda *xs: torch.stack(xs).logsumexp(0), (8, 12), (8, 12))
add("meshgrid", lambda *xs: torch.meshgrid(*xs, indexing="xy"), (8,), (12,), (10,))
add("meshgrid_list", lambda *xs: torch.stack(torch.meshgrid(list(xs), indexing="ij")), (8,), (12,))
add("broadcast", torch.broadcast_tensors, (12,), (8, 1))
add("expand_as", lambda x, y: (x.expand_as(y), y), (12,), (8, 12))
add("expand", lambda x, y: (x.expand(y.shape[0], -1), y), (12,), (8, 12))
add("repeat", lambda x, y: (x.repeat(1, y.shape[0]), y), (8, 12), (8, 12))
add("set_slice", lambda x, y: _set(x * 1.0, y, 2, 6), (8, 12), (4, 12))
add("set_sizes", lambda x, y: _side_by_side(x, y), (8, 8), (8, 12))


def _set(x: Tensor, y: Tensor, start: int, stop: int) -> Tensor:
    x[start:stop] = y
    return x


def _side_by_side(x: Tensor, y: Tensor) -> Tensor:
    both = x.new_zeros(x.shape[0], x.shape[1] + y.shape[1])
    both[:, : x.shape[1]] = x
    both[:, x.shape[1] :] = y
    return both


BAGS = torch.tensor([0, 4, 6])
add("embedding_bag", lambda w, i: F.embedding_bag(numbers(i), w, mode="max"), (10, 12), (8, 16))
add(
    "embedding_bag_weights",
    lambda w, i, s: F.embedding_bag(numbers(i), w, mode="sum", per_sample_weights=s),
    *((10, 12), (8, 16), (8, 16)),
)
add("embedding_bag_flat", lambda w, i: F.embedding_bag(numbers(i), w, BAGS), (10, 12), (8,))
add("embedding_bag_op", lambda w, i: A._embedding_bag(w, numbers(i), BAGS)[0], (10, 12), (8,))
add("cross", torch.linalg.cross, (8, 12, 3), (8, 12, 3))
add("cross_shared", torch.linalg.cross, (8, 12, 3), (1, 12, 3))
add("dist", torch.dist, (8, 12), (8, 12))
add("dist_row", torch.dist, (8, 12), (12,))
add("addr", torch.addr, (8, 12), (8,), (12,))
add("addr_row", torch.addr, (12,), (8,), (12,))
for _loss in ("mse_loss", "smooth_l1_loss", "huber_loss"):
    for _reduction in ("none", "mean", "sum"):
        add(f"{_loss}_{_reduction}", partial(getattr(F, _loss), reduction=_reduction), (8, 12), (8, 12))
add("soft_margin", lambda x, y: F.soft_margin_loss(x, y.detach()), (8, 12), (8, 12))
add(
    "entropy",
    lambda x, y, w: F.binary_cross_entropy(x.sigmoid(), y.sigmoid(), w.detach().abs()),
    (8, 12),
    (8, 12),
    (8, 12),
)
add("entropy_logits", F.binary_cross_entropy_with_logits, (8, 12), (8, 12))
add("bucketize", lambda x, b: torch.bucketize(x, b.sort().values) * x, (8, 12), (10,))
add("index_fill", lambda x, i: x.index_fill(0, numbers(i), 0.0), (8, 12), (10,))
add("index_fill_one", lambda x, i: x.index_fill(1, numbers(i), 1.5), (12, 8), (10,))
add("max_unpool2d", lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), [2, 2]), (8, 12, 4, 4))
add("max_unpool3d", lambda x: F.max_unpool3d(*F.max_pool3d(x, 2, return_indices=True), [2, 2, 2]), (8, 12, 4, 4, 4))


add("grid_sample", lambda x, g: F.grid_sample(x, g, align_corners=False), (8, 12, 6, 6), (8, 6, 4, 2))
add("grid_sample_3d", lambda x, g: F.grid_sample(x, g, align_corners=False), (8, 12, 4, 4, 4), (8, 4, 4, 4, 3))
add("fractional", lambda x, s: A.fractional_max_pool2d(x, 2, 2, s.detach().sigmoid())[0], (8, 12, 6, 6), (8, 12, 2))

try:
    import torchvision.ops as _vision
except ImportError:  # the extra is not installed
    pass
else:
    V: Any = torch.ops.torchvision

    def _boxes(b: Tensor) -> Tensor:
        return torch.cat([b[:, :1] * 0, b[:, 1:].abs()], 1)

    def _deformed(x: Tensor, w: Tensor, o: Tensor, m: Tensor, b: Tensor) -> Tensor:
        return V.deform_conv2d(x, w, o, m, b, 1, 1, 0, 0, 1, 1, 1, 2, True)

    add("deformed", _deformed, (8, 12, 4, 4), (16, 12, 2, 2), (8, 16, 3, 3), (8, 8, 3, 3), (16,))
    add("deformed_plain", lambda x, o, w: _vision.deform_conv2d(x, o, w), (8, 12, 4, 4), (8, 8, 3, 3), (16, 12, 2, 2))
    add("box_iou_rotated", V.box_iou_rotated, (8, 5), (12, 5))
    add("roi_align", lambda x, b: V.roi_align(x, _boxes(b), 1.0, 2, 2, 1, False), (8, 12, 6, 6), (10, 5))
    add("roi_pool", lambda x, b: V.roi_pool(x, _boxes(b), 1.0, 2, 2)[0], (8, 12, 6, 6), (10, 5))
    add("ps_roi_align", lambda x, b: V.ps_roi_align(x, _boxes(b), 1.0, 2, 2, 1)[0], (8, 32, 6, 6), (10, 5))
    add("ps_roi_pool", lambda x, b: V.ps_roi_pool(x, _boxes(b), 1.0, 2, 2)[0], (8, 32, 6, 6), (10, 5))
    add("nms", lambda b, s: b[V.nms(b.cumsum(1), s, 0.5)], (8, 4), (8,))


# Kernels of other devices, and ops that are seen whole in inference mode alone: the same rule, the same arguments.
SAME = {
    **dict.fromkeys(("aten::_convolution", "aten::convolution_overrideable"), "aten::convolution"),
    **dict.fromkeys(
        (
            *("aten::cudnn_batch_norm", "aten::miopen_batch_norm", "aten::batch_norm", "aten::_batch_norm_impl_index"),
            *("aten::_batch_norm_with_update", "aten::_batch_norm_no_update"),
            *("aten::_native_batch_norm_legit_functional", "aten::_native_batch_norm_legit_no_training"),
        ),
        "aten::native_batch_norm",
    ),
    "aten::cdist": "aten::_cdist_forward",
    "aten::concat": "aten::cat",
    "aten::cross": "aten::linalg_cross",
    "aten::_embedding_bag_forward_only": "aten::_embedding_bag",
}
APART = {
    "aten::linspace": "start and end have no dimensions",
    "aten::logspace": "start and end have no dimensions",
    "aten::is_same_size": "no tensor comes out",
    "aten::_assert_async": "no tensor comes out",
    "aten::_assert_tensor_metadata": "no tensor comes out",
    "aten::randint_like": "its bounds have no dimensions",
    "aten::prelu": "seen in inference mode alone; a test of its own",
    "aten::to": "seen in inference mode alone; the second tensor gives a type",
    "aten::repeat_interleave": "two tensors in inference mode alone; elsewhere its result is an index",
    "aten::max": "two tensors in inference mode alone, and refused there; elsewhere they reach aten::maximum",
    "aten::min": "as aten::max",
    "aten::sort": "of several tensors in scripts alone",
    "aten::set_": "takes the memory of the second tensor",
    "aten::tensor_split": "by a tensor in inference mode alone",
    "aten::mkldnn_rnn_layer": "freezes all that it touches",
    "aten::_cudnn_rnn": "freezes all that it touches",
    "aten::miopen_rnn": "freezes all that it touches",
    "aten::lstm_mps": "freezes all that it touches",
    "transformers::grouped_mm_fallback": "torch's _grouped_mm by another name; a test of routing runs it",
    "one_hot": "takes one tensor",
    **dict.fromkeys(
        (
            *("aten::nll_loss_forward", "aten::nll_loss2d_forward", "aten::multi_margin_loss", "aten::_ctc_loss"),
            *("aten::multilabel_margin_loss_forward", "aten::_linalg_solve_ex", "aten::linalg_solve_triangular"),
            *("aten::linalg_pinv", "aten::linalg_lstsq", "aten::take", "aten::put", "aten::masked_scatter"),
            *("aten::diagonal_scatter", "aten::block_diag", "aten::segment_reduce"),
            *("aten::_sparse_coo_tensor_with_dims_and_tensors", "aten::sparse_compressed_tensor"),
            *("aten::_sparse_compressed_tensor_unsafe", "aten::sparse_mask", "aten::_sparse_sparse_matmul"),
            "aten::_convert_indices_from_csr_to_coo",
        ),
        "freezes all that it touches",
    ),
    "_pack_padded_sequence": "lengths are whole numbers of sequences, which stay",
    "_pad_packed_sequence": "lengths are whole numbers of sequences, which stay",
}
