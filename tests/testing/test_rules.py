"""Rules hold by the laws, ours too; and a check that says so can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import secateur
from secateur.errors import InputError
from secateur.testing import check_rule


def unseen(function: Callable[..., Any], *tensors: Tensor) -> Tensor:
    """As a C extension would: nothing of it shows in a trace."""
    return torch.from_numpy(np.asarray(function(*(t.detach().numpy() for t in tensors))))


def x(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


# equation: what the op does, and what must be free
RIGHT: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...], set[str]]] = {
    "n c *, c -> n c *": (lambda a, w: a * w[:, None], (x(2, 6, 3), x(6)), {"arg0[0]", "arg0[1], arg1[0]", "arg0[2]"}),
    "b i, o i, o -> b o": (
        lambda a, w, b: a @ w.T + b,
        (x(2, 6), x(4, 6), x(4)),
        {"arg0[0]", "arg0[1], arg1[1]", "arg1[0], arg2[0]"},
    ),
    "n c -> n": (lambda a: a.sum(1), (x(3, 6),), {"arg0[0]", "arg0[1]"}),
    "n ~c, c -> n c": (
        lambda a, w: (a - a.mean(1, keepdims=True)) * w,
        (x(3, 6), x(6)),
        {"arg0[0]", "arg0[1], arg1[0]"},
    ),
    "n !c -> n c": (lambda a: a[:, ::-1].copy(), (x(3, 6),), {"arg0[0]"}),
    "n (h d), h -> n h d": (
        lambda a, w: a.reshape(len(a), len(w), -1) * w[:, None],
        (x(3, 8), x(2)),
        {"arg0[0]", "arg0[1]", "arg0[1], arg1[0]"},
    ),
    "n, m -> n m": (lambda a, b: a[:, None] + b, (x(4), x(1, 6)[0]), {"arg0[0]", "arg1[0]"}),
}


def taught(equation: str, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    return secateur.rule(equation, **options)(lambda *tensors: unseen(function, *tensors))


@pytest.mark.parametrize("equation", RIGHT)
def test_true_equations_hold_and_free_what_they_say(equation: str) -> None:
    function, operands, free = RIGHT[equation]
    assert set(check_rule(taught(equation, function), *operands)) == free


@pytest.mark.parametrize("function", [lambda a: a * 2, np.abs, np.sin])
def test_ops_that_keep_zero(function: Callable[..., Any]) -> None:
    assert check_rule(taught("n c -> n c", function, keeps_zero=True), x(3, 6)) == ("arg0[0]", "arg0[1]")


WRONG: dict[str, tuple[str, Callable[..., Any], tuple[Tensor, ...], dict[str, Any]]] = {
    "reversed": ("n c -> n c", lambda a: a[:, ::-1].copy(), (x(3, 6),), {}),
    "a mean taken for a sum": ("n c -> n", lambda a: a.mean(1), (x(3, 6),), {}),
    "a mean within": ("n c -> n c", lambda a: a - a.mean(1, keepdims=True), (x(3, 6),), {}),
    "a softmax taken for a norm": ("n c -> n c", lambda a: np.exp(a) / np.exp(a).sum(1, keepdims=True), (x(3, 6),), {}),
    "no zero kept": ("n c -> n c", np.exp, (x(3, 6),), {"keeps_zero": True}),
    "weights of another dimension": ("n c, c -> n c", lambda a, w: a * w[:, None], (x(6, 6), x(6)), {}),
    "mixed": ("n c -> n c", np.cumsum, (x(1, 6),), {}),
    "inner and outer": ("(d h), h -> h d", lambda a, w: a.reshape(2, 4) * w[:, None], (x(8), x(2)), {}),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_rule_that_was_taught_wrongly_is_caught(name: str) -> None:
    equation, function, operands, options = WRONG[name]
    if name == "mixed":
        function = lambda a: np.cumsum(a, 1)  # noqa: E731
    with pytest.raises(
        AssertionError, match=r"the rule is wrong about (arg0\[|units that are coupled|the order of units)"
    ):
        check_rule(taught(equation, function, **options), *operands)


def test_a_rule_that_frees_nothing_proves_nothing() -> None:
    with pytest.raises(AssertionError, match=r"leaves no units prunable(.|\n)*arg0\[1\]: marked ! in the rule"):
        check_rule(taught("!n !c -> n c", np.abs), x(3, 6))


def test_an_op_without_float_results_cannot_be_tried() -> None:
    with pytest.raises(InputError, match="returns no float tensor"):
        check_rule(torch.argmax, x(3, 6))


OURS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "linear": (F.linear, (x(2, 6), x(4, 6), x(4))),
    "conv2d": (lambda a, w: F.conv2d(a, w, padding=1), (x(2, 4, 5, 5), x(6, 4, 3, 3))),
    "grouped conv": (lambda a, w: F.conv2d(a, w, groups=2), (x(2, 8, 5, 5), x(6, 4, 3, 3))),
    "cat": (lambda a, b: torch.cat([a, b], 1), (x(2, 6), x(2, 4))),
    "matmul": (torch.matmul, (x(2, 3, 6), x(6, 4))),
    "layer_norm": (lambda a, w: F.layer_norm(a, a.shape[-1:], w), (x(2, 6), x(6))),
    "softmax": (lambda a: a.softmax(-1), (x(2, 6),)),
    "amax": (lambda a: a.amax(1), (x(3, 6),)),
    "exp": (torch.exp, (x(3, 6),)),
    "glu": (F.glu, (x(2, 8),)),
    "einsum": (lambda a, b: torch.einsum("bhi,hij->bhj", a, b), (x(2, 3, 4), x(3, 4, 5))),
}


@pytest.mark.parametrize("name", OURS)
def test_our_own_rules_hold(name: str) -> None:
    op, operands = OURS[name]
    assert check_rule(op, *operands)
