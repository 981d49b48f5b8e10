"""Shortcuts for ops on meta tensors return what PyTorch's own meta kernels return, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.base.meta import SHORTCUTS, key, shorted
from secateur.base.nested import tensors_in

SDPA = torch.nn.functional.scaled_dot_product_attention


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


class Compared(TorchDispatchMode):
    """Compares each result that has a shortcut with that of PyTorch's kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.shorted: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = key(func)
        short = shorted(name, args, kwargs or {})
        result = func(*args, **(kwargs or {}))
        if short is not NotImplemented:
            self.shorted.add(name)
            agree(short, result)
        return result


def agree(short: Any, result: Any) -> None:
    for a, b in zip(tensors_in(short), tensors_in(result), strict=True):
        assert (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device)
        assert a.stride() == b.stride() or a.numel() == 0


X, IMAGE, LOW = meta(2, 5, 6), meta(2, 6, 8, 8), meta(2, 5, 6, dtype=torch.bfloat16)
OPS: dict[str, tuple[Callable[[], Any], str]] = {
    "unary": (lambda: X.sigmoid(), "aten::sigmoid"),
    "unary of other strides": (lambda: X.transpose(1, 2).exp(), "aten::exp"),
    "unary in low precision": (lambda: LOW.relu(), "aten::relu"),
    "in place": (lambda: meta(2, 3).relu_(), "aten::relu_"),
    "a number": (lambda: X * 2.0, "aten::mul.Tensor"),
    "the same shape": (lambda: X + meta(2, 5, 6), "aten::add.Tensor"),
    "broadcast": (lambda: X / meta(6), "aten::div.Tensor"),
    "broadcast on both sides": (lambda: meta(2, 1, 6) - meta(5, 1), "aten::sub.Tensor"),
    "sum in place": (lambda: meta(2, 3).add_(meta(2, 3)), "aten::add_.Tensor"),
    "power": (lambda: X**2, "aten::pow.Tensor_Scalar"),
    "cat": (lambda: torch.cat([X, meta(2, 5, 3)], -1), "aten::cat"),
    "product": (lambda: meta(4, 6) @ meta(6, 3), "aten::mm"),
    "product and bias": (lambda: torch.addmm(meta(3), meta(4, 6), meta(6, 3)), "aten::addmm"),
    "products": (lambda: torch.bmm(X, meta(2, 6, 3)), "aten::bmm"),
    "mean": (lambda: X.mean((0, -1)), "aten::mean.dim"),
    "mean that keeps dimensions": (lambda: X.mean(1, keepdim=True), "aten::mean.dim"),
    "convolution": (
        lambda: torch.conv2d(IMAGE, meta(4, 3, 3, 3), stride=2, padding=1, groups=2),
        "aten::convolution",
    ),
    "dilated convolution": (lambda: torch.conv2d(IMAGE, meta(4, 6, 3, 3), dilation=2), "aten::convolution"),
    "transposed convolution": (
        lambda: torch.conv_transpose2d(IMAGE, meta(6, 2, 3, 3), stride=2, output_padding=1, groups=3),
        "aten::convolution",
    ),
}


@pytest.mark.parametrize("name", OPS)
def test_a_shortcut_returns_what_the_kernel_returns(name: str) -> None:
    run, op = OPS[name]
    with Compared() as compared:
        run()
    assert op in compared.shorted


FUNCTIONS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], Callable[..., Any]]] = {
    "linear": ("linear", (X, meta(4, 6)), {}, torch.nn.functional.linear),
    "linear on a vector": ("linear", (meta(6), meta(4, 6), meta(4)), {}, torch.nn.functional.linear),
    "attention": ("scaled_dot_product_attention", (meta(2, 3, 5, 4),) * 3, {}, SDPA),
    "attention of other values": (
        "scaled_dot_product_attention",
        (meta(2, 3, 5, 4), meta(2, 3, 7, 4), meta(2, 3, 7, 6)),
        {},
        SDPA,
    ),
    "cell": ("gru_cell", (meta(2, 6), meta(2, 4), meta(12, 6), meta(12, 4)), {}, torch.gru_cell),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_shortcut_of_a_function_has_its_shape(name: str) -> None:
    called, args, kwargs, function = FUNCTIONS[name]
    short, result = shorted(called, args, kwargs), function(*args, **kwargs)
    assert (short.shape, short.dtype, short.device) == (result.shape, result.dtype, result.device)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_recurrent_layer_returns_its_states_too(bidirectional: bool) -> None:
    directions = 1 + bidirectional
    states = (meta(directions, 2, 8), meta(directions, 2, 8))
    weights = [meta(32, 6), meta(32, 8)] * directions
    out, h, c = shorted("lstm", (X, states, weights, False, 1, 0.0, False, bidirectional, True), {})
    assert [tuple(t.shape) for t in (out, h, c)] == [(2, 5, 8 * directions), states[0].shape, states[1].shape]


REFUSED: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "an op without a shortcut": ("aten::sort", (X,), {}),
    "no arguments": ("aten::relu", (), {}),
    "real tensors": ("aten::relu", (torch.ones(2),), {}),
    "integers": ("aten::exp", (meta(2, dtype=torch.int64),), {}),
    "two precisions": ("aten::add.Tensor", (X, LOW), {}),
    "parts of other lengths": ("aten::cat", ([X, meta(2, 4, 6)], -1), {}),
    "another precision": ("aten::mean.dim", (X, [0]), {"dtype": torch.float64}),
    "sizes that do not fit": ("aten::mm", (meta(2, 3), meta(4, 5)), {}),
    "channels that do not fit": ("linear", (X, meta(4, 5)), {}),
    "a kernel that is too large": (
        "aten::convolution",
        (IMAGE, meta(4, 6, 9, 9), None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1),
        {},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_calls_have_no_shortcut(name: str) -> None:
    called, args, kwargs = REFUSED[name]
    assert called == "aten::sort" or called in SHORTCUTS
    assert shorted(called, args, kwargs) is NotImplemented
