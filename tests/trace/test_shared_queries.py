"""Queries and keys of one projection: the root of the head size is made up for in both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from nets import Parts

Ways = Callable[..., Any]


def shared(**options: Any) -> nn.Module:
    """The same module for both."""
    model = separate(**options)
    model.k = model.q
    return model


def aliased(**options: Any) -> nn.Module:
    """Two modules that share their weight; each has its own bias."""
    model: Any = separate(**options)
    model.k.weight = model.q.weight
    return model


def separate(**options: Any) -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        q, k, v = (p(x).view(2, 5, 2, -1).transpose(1, 2) for p in (self.q, self.k, self.v))
        q, k = self.turn(q), self.turn(k)
        return self.out(F.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2).flatten(2))

    layers = {name: nn.Linear(8, 16) for name in "qkv"}
    return Parts(run, out=nn.Linear(16, 3), turn=nn.Identity(), **layers)


def normed(**options: Any) -> nn.Module:
    """Projections of their own, then one norm for both."""
    model = separate(**options)
    model.turn = nn.LayerNorm(8)
    return model


def rotary(**options: Any) -> nn.Module:
    model = shared(**options)
    model.turn = Parts(lambda self, x: x * self.buffer_cos + torch.cat([-x[..., 4:], x[..., :4]], -1) * self.buffer_sin,
                       buffer_cos=torch.randn(5, 8), buffer_sin=torch.randn(5, 8))  # fmt: skip
    return model


def cut(model: nn.Module) -> secateur.Pruned:
    return secateur.prune(model, (torch.randn(2, 5, 8),), "channels=0.5", verify=True)


@pytest.mark.parametrize(
    ("made", "scaled"),
    [
        (shared, {"q.weight", "q.bias"}),
        (aliased, {"q.weight", "q.bias", "k.bias"}),
        (normed, {"turn.weight", "turn.bias"}),
    ],
)
def test_what_makes_query_and_key_is_scaled_by_the_fourth_root(made: Ways, scaled: set[str]) -> None:
    r = cut(made())
    assert (r.model.q.out_features, r.model.v.out_features) == (8, 8)
    assert {(scale.name, scale.factor) for scale in r.plan.scales} == {(name, 0.5**0.25) for name in scaled}


def test_of_two_projections_the_query_alone_is_scaled() -> None:
    assert {(scale.name, scale.factor) for scale in cut(separate()).plan.scales} == {
        ("q.weight", 0.5**0.5),
        ("q.bias", 0.5**0.5),
    }


@pytest.mark.parametrize("made", [shared, aliased, normed])
def test_a_scale_that_is_given_needs_none(made: Ways) -> None:
    r = cut(made(scale=0.3))
    assert (r.model.q.out_features, r.plan.scales) == (8, ())


def test_rotary_tables_keep_the_dimensions_that_they_turn() -> None:
    r = cut(rotary())
    assert r.model.v.out_features == 8


def test_a_projection_that_is_also_the_value_is_frozen_with_a_reason() -> None:
    model = shared()
    model.v = model.q
    graph = secateur.trace(model, (torch.randn(2, 5, 8),))
    assert not graph.axes
    assert "the query is used elsewhere as well" in str(graph.why("q.weight"))


def test_keys_normalised_from_the_query_are_frozen_with_a_reason() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        q, v = (p(x).view(2, 5, 2, -1).transpose(1, 2) for p in (self.q, self.v))
        return self.out(F.scaled_dot_product_attention(q, F.normalize(q, dim=-1), v).transpose(1, 2).flatten(2))

    model = Parts(run, q=nn.Linear(8, 16), v=nn.Linear(8, 16), out=nn.Linear(16, 3))
    graph = secateur.trace(model, (torch.randn(2, 5, 8),))
    assert {axis.name for axis in graph.axes} == {"v"}
    assert "the query is used elsewhere as well" in str(graph.why("q.weight"))
