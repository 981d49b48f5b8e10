"""Rules of users' own ops: taught, they cut; wrong, they are caught; absent, the report says how to teach them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
import secateur
from nets import Parts
from secateur.errors import InputError
from secateur.graph.frozen_text import frozen_summary
from secateur.testing import check_rule
from secateur.trace.registry import ATEN

X = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))


def library_op(name: str) -> Callable[..., Tensor]:
    """x: (n, c), w: (c,) -> (n, c)"""

    @torch.library.custom_op(f"tests::{name}", mutates_args=())
    def op(x: Tensor, w: Tensor) -> Tensor:
        return x * w

    op.register_fake(lambda x, w: torch.empty_like(x))
    return op


def net(op: Callable[..., Tensor]) -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        return self.b(op(self.a(x).tanh(), self.w))

    return Parts(run, a=nn.Linear(6, 8), b=nn.Linear(8, 5), w=nn.Parameter(torch.rand(8) + 0.5))


def is_right(model: nn.Module) -> bool:
    result = secateur.prune(laws.randomized(model), X, "channels=0.6", importance="random", verify=True)
    return result.plan.axes["a"].kept_count < 8


def test_an_unknown_op_is_reported_with_lines_that_teach_it() -> None:
    model = net(library_op("unknown"))
    before = secateur.trace(model, X)
    assert dict(before.unknown) == {"tests::unknown": 1}
    lines = [line.strip() for line in frozen_summary(before).splitlines()]
    start = lines.index("import secateur")
    assert lines[start : start + 3] == [
        "import secateur",
        "# (2x8, 8) -> 2x8. One letter: units that stay or go together. !a: all of them stay",
        'secateur.rule("tests::unknown", "a b, b -> a b")',
    ]
    exec("\n".join(lines[start : start + 3]), {})
    assert not secateur.trace(model, X).unknown
    assert is_right(model)


def test_a_library_op() -> None:
    op = library_op("scale")
    secateur.rule("tests::scale", "n c, c -> n c", keeps_zero=True)
    assert is_right(net(op))
    assert check_rule(op, torch.randn(3, 8), torch.randn(8)) == ("arg0[0]", "arg0[1], arg1[0]")


def test_an_autograd_function_without_setup_context_and_with_it() -> None:
    class Old(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:  # type: ignore[override]
            return torch.from_numpy(x.detach().numpy() * w.detach().numpy())

    class New(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor, w: Tensor) -> Tensor:  # type: ignore[override]
            return torch.from_numpy(x.detach().numpy() * w.detach().numpy())

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            pass

    for function in (Old, New):
        assert not secateur.trace(net(function.apply), X).axes
        assert secateur.rule(function, "n c, c -> n c") is function
        assert is_right(net(function.apply))


@secateur.rule("n c, c -> n c")
def hidden(x: Tensor, w: Tensor) -> Tensor:
    """x: (n, c), w: (c,)"""
    return torch.from_numpy(x.detach().numpy() * w.detach().numpy())


def test_a_function_whose_inside_cannot_be_seen() -> None:
    assert is_right(net(hidden))
    assert is_right(net(lambda x, w: hidden(w=w, x=x)))
    assert torch.equal(hidden(torch.ones(2, 3), torch.arange(3.0)), torch.arange(3.0).expand(2, 3))


def test_a_function_named_as_one_of_torchs_is_not_taken_for_it() -> None:
    @secateur.rule("n c, c -> n c")
    def layer_norm(x: Tensor, w: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() * w.detach().numpy())

    assert is_right(net(layer_norm))


def test_a_body_over_terms() -> None:
    op = library_op("body")

    @secateur.rule("tests::body")
    def body(op: Any) -> None:
        op.unify(op.dims(op["x"])[1], op.dims(op["w"])[0])
        op.role(op["w"], 0, "scale")
        op.result(op.dims(op["x"]))

    assert is_right(net(op))
    assert body is ATEN["tests::body"]


def test_a_rule_that_is_wrong_fails_verification() -> None:
    @torch.library.custom_op("tests::reversed", mutates_args=())
    def op(x: Tensor, w: Tensor) -> Tensor:
        return x.flip(1) * w

    secateur.rule("tests::reversed", "n c, c -> n c")
    with pytest.raises(secateur.PruningError, match="is not what the plan says"):
        secateur.prune(laws.randomized(net(op)), X, "channels=0.6", importance="random", verify=True)
    with pytest.raises(
        AssertionError, match=r"the rule is wrong about units that are coupled:\n  arg0\[1\], arg1\[0\]: by "
    ):
        check_rule(op, torch.randn(3, 8), torch.randn(8))


def test_a_rule_that_does_not_fit_freezes_and_says_so() -> None:
    op = library_op("misfit")
    secateur.rule("tests::misfit", "n c, n -> n c")
    graph = secateur.trace(net(op), X)
    assert list(graph.unknown) == ["tests::misfit (its rule failed: InputError)"]
    reasons = {frozen.name: frozen.reason for frozen in graph.frozen if frozen.dim == 0}
    assert "the rule 'n c, n -> n c' does not fit: n is 2, in a dimension of size 8" in reasons["a.weight"]


def test_a_user_may_replace_a_taught_rule_but_not_one_of_secateur() -> None:
    op = library_op("twice")
    secateur.rule("tests::twice", "!n !c, c -> n c")
    assert not secateur.trace(net(op), X).axes
    secateur.rule("tests::twice", "n c, c -> n c")
    assert secateur.trace(net(op), X).axes
    with pytest.raises(InputError, match="aten::permute already has a rule in secateur"):
        secateur.rule("aten::permute", "a b -> b a")


def test_an_op_is_known_by_itself_too() -> None:
    made = library_op("object")
    for op in (made, torch.ops.tests.object, torch.ops.tests.object.default):
        assert secateur.rule(op, "n c, c -> n c") is op
        assert is_right(net(op))


@pytest.mark.parametrize(
    ("target", "told"),
    [("scale", "'scale' is not the name of an op\ninclude its namespace"), (3, "for 3"), (nn.Linear, "for <class")],
)
def test_what_cannot_be_taught_is_refused(target: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        secateur.rule(target, "n -> n")
