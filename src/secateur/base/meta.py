"""Results of common ops on meta tensors, made without running PyTorch's meta kernels.

Many of PyTorch's meta kernels are decompositions in Python. They cost about a hundred times as much as one empty
tensor, and the first of them imports the compiler. Each shortcut returns the result that the op would return, or
`NotImplemented` where the call is not a simple one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from secateur.base.table import Table

Shortcut: TypeAlias = "Callable[..., Any]"
SHORTCUTS: Table[str, Shortcut] = Table("shortcuts for")


def shortcut(*names: str) -> Callable[[Shortcut], Shortcut]:
    """Register a shortcut for aten overloads."""
    return SHORTCUTS.register(*names)


def like(x: torch.Tensor) -> torch.Tensor:
    """Return an empty tensor like x. (`empty_like` on meta tensors runs Python code, which is slow.)"""
    return torch.empty(x.shape, dtype=x.dtype, device=x.device) if x.is_contiguous() else torch.empty_like(x)


@shortcut(
    *(
        f"aten::{name}"
        for name in "relu hardswish hardsigmoid silu gelu sigmoid tanh relu6 mish elu leaky_relu".split()
    ),
    *(f"aten::{name}" for name in "hardtanh clone rsqrt sqrt exp neg abs log sin cos softplus reciprocal".split()),
    *("aten::clamp", "aten::clamp_min", "aten::clamp_max"),
)
def unary(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    return like(x) if x.is_floating_point() and not kwargs else NotImplemented


@shortcut(
    *(f"aten::{name}_" for name in "relu hardswish hardsigmoid silu hardtanh sigmoid leaky_relu mish elu".split())
)
def unary_in_place(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    return x


@shortcut("aten::add.Tensor", "aten::mul.Tensor", "aten::sub.Tensor", "aten::div.Tensor")
def binary(x: Any, y: Any, **kwargs: Any) -> Any:
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        return NotImplemented
    if isinstance(y, (int, float)):
        return like(x)
    if not isinstance(y, torch.Tensor) or x.dtype != y.dtype:
        return NotImplemented
    if x.shape == y.shape:
        return like(x)
    wide = x if x.numel() >= y.numel() else y
    shape = torch.broadcast_shapes(x.shape, y.shape)
    return like(wide) if wide.shape == shape else torch.empty(shape, dtype=x.dtype, device=x.device)


@shortcut("aten::add_.Tensor", "aten::mul_.Tensor", "aten::sub_.Tensor", "aten::div_.Tensor")
def binary_in_place(x: torch.Tensor, y: Any, **kwargs: Any) -> Any:
    plain = isinstance(y, torch.Tensor) and x.is_floating_point() and x.shape == y.shape
    return x if plain else NotImplemented


@shortcut("aten::pow.Tensor_Scalar")
def power(x: torch.Tensor, exponent: Any) -> Any:
    return like(x) if x.is_floating_point() and isinstance(exponent, (int, float)) else NotImplemented


@shortcut("aten::cat")
def cat(parts: Sequence[torch.Tensor], dim: int = 0) -> Any:
    first = parts[0]
    others = {(part.dtype, len(part.shape), part.is_contiguous()) for part in parts}
    if others != {(first.dtype, len(first.shape), True)} or not first.dim():
        return NotImplemented
    shapes = [[int(n) for n in part.shape] for part in parts]
    at = dim % first.dim()
    length = sum(shape.pop(at) for shape in shapes)
    if any(shape != shapes[0] for shape in shapes):
        return NotImplemented
    return torch.empty((*shapes[0][:at], length, *shapes[0][at:]), dtype=first.dtype, device=first.device)


@shortcut("aten::mm")
def product(x: torch.Tensor, y: torch.Tensor) -> Any:
    fits = x.dim() == y.dim() == 2 and x.shape[1] == y.shape[0] and x.dtype == y.dtype
    return torch.empty((x.shape[0], y.shape[1]), dtype=x.dtype, device=x.device) if fits else NotImplemented


@shortcut("aten::addmm")
def product_and_bias(bias: torch.Tensor, x: torch.Tensor, y: torch.Tensor, **kwargs: Any) -> Any:
    return product(x, y) if bias.dim() == 1 and bias.dtype == x.dtype else NotImplemented


@shortcut("aten::bmm")
def products(x: torch.Tensor, y: torch.Tensor) -> Any:
    fits = x.dim() == y.dim() == 3 and x.shape[0] == y.shape[0] and x.shape[2] == y.shape[1] and x.dtype == y.dtype
    return torch.empty((*x.shape[:2], y.shape[2]), dtype=x.dtype, device=x.device) if fits else NotImplemented


@shortcut("aten::mean.dim")
def mean(x: torch.Tensor, dims: Any, keepdim: bool = False, **kwargs: Any) -> Any:
    if kwargs or not dims or not x.is_floating_point():
        return NotImplemented
    gone = {d % x.dim() for d in dims}
    shape = [1 if d in gone else n for d, n in enumerate(x.shape) if keepdim or d not in gone]
    return torch.empty(shape, dtype=x.dtype, device=x.device)


@shortcut("aten::native_batch_norm", "aten::_native_batch_norm_legit_no_training", "aten::_native_batch_norm_legit")
def batch_norm(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    nothing = torch.empty(0, dtype=x.dtype, device=x.device)
    return like(x), nothing, nothing


@shortcut("aten::convolution")
def convolution(
    x: torch.Tensor,
    w: torch.Tensor,
    b: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Any:
    """Return the output of a convolution, with lengths by the formulas in torch.nn.Conv2d and ConvTranspose2d."""
    count = w.dim() - 2
    channels = w.shape[0] if transposed else w.shape[1] * groups
    fits = x.dim() == w.dim() and x.dtype == w.dtype and x.shape[1] == channels
    if not fits or any(len(numbers) != count for numbers in (stride, padding, dilation)):
        return NotImplemented
    lengths = []
    for n, k, s, p, d, o in zip(x.shape[2:], w.shape[2:], stride, padding, dilation, output_padding, strict=True):
        reach = d * (k - 1)
        lengths.append((n - 1) * s - 2 * p + reach + o + 1 if transposed else (n + 2 * p - reach - 1) // s + 1)
    if min(lengths) < 1:
        return NotImplemented
    shape = (x.shape[0], w.shape[1] * groups if transposed else w.shape[0], *lengths)
    return torch.empty(shape, dtype=x.dtype, device=x.device)


@shortcut("linear")
def linear(x: torch.Tensor, w: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    fits = w.dim() == 2 and x.dim() > 0 and x.shape[-1] == w.shape[1] and x.dtype == w.dtype
    return torch.empty((*x.shape[:-1], w.shape[0]), dtype=x.dtype, device=x.device) if fits else NotImplemented


@shortcut("scaled_dot_product_attention")
def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    one = q.dim() == k.dim() == 4 and q.shape[0] == k.shape[0]  # or each key head serves equally many query heads
    shared = one and (k.shape[1] == 1 or (kwargs.get("enable_gqa") and not q.shape[1] % k.shape[1]))
    lengths = q.shape[-1] == k.shape[-1] and k.shape[-2] == v.shape[-2]
    fits = lengths and (q.shape[:-2] == k.shape[:-2] or shared) and k.shape[:-2] == v.shape[:-2]
    if not fits:
        return NotImplemented
    shape = (*q.shape[:-1], v.shape[-1])
    if q.dim() == 4 and q.shape[-1] == v.shape[-1]:  # the layout of the fused kernels: a later reshape is a view
        batch, heads, length, width = shape
        return torch.empty((batch, length, heads, width), dtype=q.dtype, device=q.device).transpose(1, 2)
    return torch.empty(shape, dtype=q.dtype, device=q.device)


@shortcut("_grouped_mm")
def grouped_mm(x: torch.Tensor, w: torch.Tensor, **kwargs: Any) -> Any:
    if x.dim() != 2 or w.dim() != 3 or x.shape[1] != w.shape[1] or x.dtype != w.dtype:
        return NotImplemented
    return torch.empty((x.shape[0], w.shape[2]), dtype=x.dtype, device=x.device)


@shortcut("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")
def norm(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


@shortcut("lstm", "gru", "rnn_tanh", "rnn_relu")
def recurrent(x: torch.Tensor, *args: Any) -> Any:
    """Return the output of a recurrent layer on padded or packed input; packed, batch sizes come before the states."""
    states, *_, bidirectional = args[1:8] if isinstance(args[2], (tuple, list)) else args[:7]
    held = states if isinstance(states, (tuple, list)) else (states,)
    width = held[0].shape[-1] * (2 if bidirectional else 1)
    out = torch.empty((*x.shape[:-1], width), dtype=x.dtype, device=x.device)
    return out, *(torch.empty(state.shape, dtype=x.dtype, device=x.device) for state in held)


@shortcut("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
def recurrent_cell(x: torch.Tensor, states: torch.Tensor | Sequence[torch.Tensor], *args: Any) -> Any:
    return like(states) if isinstance(states, torch.Tensor) else tuple(map(like, states))


STRICT = frozenset(("_grouped_mm",))
"""Functions whose meta kernel refuses what their other kernels take (a precision that only the CPU has)."""


def shorted(key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the result of a call on meta tensors, or `NotImplemented` where it has no shortcut."""
    short = SHORTCUTS.get(key)
    if short is None or not args:
        return NotImplemented
    first = args[0][0] if type(args[0]) in (list, tuple) and args[0] else args[0]
    return short(*args, **kwargs) if getattr(first, "is_meta", False) else NotImplemented


def key(func: Any) -> str:
    """Return the name under which the shortcut of an aten overload is registered."""
    overload = func._overloadname
    name = func._schema.name
    return name if overload == "default" else f"{name}.{overload}"
