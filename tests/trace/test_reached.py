"""Which parameters a call reaches: also those without dimensions, and those that only Python reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur

X = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))


class Using(nn.Module):
    def __init__(self, use: Callable[[Any, Tensor], Tensor]):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3)
        self.scale, self.one = nn.Parameter(torch.tensor(2.6)), nn.Parameter(torch.rand(1))
        self.vector = nn.Parameter(torch.rand(16))
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, torch.relu(self.a(x)))


SCALARS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "multiplied": lambda m, h: m.b(h) * m.scale.exp(),
    "item": lambda m, h: m.b(h) * m.scale.item(),
    "float": lambda m, h: m.b(h) * float(m.scale),
    "bool": lambda m, h: m.b(h) if m.scale > 0 else m.b(-h),
    "math": lambda m, h: m.b(h) * math.exp(m.scale),
    "tolist": lambda m, h: m.b(h) * m.scale.tolist(),
    "expand": lambda m, h: m.b(h) * m.scale.expand(3),
    "view": lambda m, h: m.b(h) * m.scale.view(1),
    "stack": lambda m, h: m.b(h) * torch.stack([m.scale, m.scale, m.scale]),
    "clamp": lambda m, h: m.b(h.clamp(min=m.scale)),
    "masked fill": lambda m, h: m.b(h.masked_fill(h > 0, m.scale)),
    "where": lambda m, h: m.b(torch.where(h > 0.1, h, m.scale)),
    "lerp": lambda m, h: m.b(torch.lerp(h, h * 2, m.scale)),
    "in place": lambda m, h: m.b(h.clone().mul_(m.scale)),
    "einsum": lambda m, h: torch.einsum(",ab->ab", m.scale, m.b(h)),
    "soft threshold": lambda m, h: m.b(F.softshrink(h, float(m.scale.abs()) * 0.1)),
    "distribution": lambda m, h: m.b(h) * torch.distributions.Normal(m.scale, 1.0).mean,
}


@pytest.mark.parametrize("use", SCALARS)
def test_a_parameter_without_dimensions_is_reached(use: str) -> None:
    net = Using(SCALARS[use])
    graph = secateur.trace(net, X)
    assert graph.unreached == ("one", "vector")
    assert [axis.name for axis in graph.axes] == ["a"]
    result = secateur.prune(net, X, "macs=0.5")
    assert result.model.a.out_features == 8
    assert "no call reached 2 parameter tensors" in str(result)
    assert secateur.verify(net, result.model, result.plan, X).passed


SIZES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "length": lambda m, h: m.b(h) * 1.0 if len(m.vector) > 3 else m.b(-h),
    "shape": lambda m, h: m.b(h * torch.ones(m.vector.shape)),
    "size": lambda m, h: m.b(h * torch.ones(m.vector.size(0))),
    "count": lambda m, h: m.b(h) / m.vector.numel(),
}


@pytest.mark.parametrize("use", SIZES)
def test_a_parameter_of_which_only_the_size_is_read_stays_for_that_reason(use: str) -> None:
    graph = secateur.trace(Using(SIZES[use]), X)
    assert graph.unreached == ("scale", "one")
    assert next(f.reason for f in graph.frozen if f.name == "vector") == (
        "the calls read its size alone, not its values"
    )


def test_a_type_is_no_use_of_units() -> None:
    graph = secateur.trace(Using(lambda m, h: m.b(h.type_as(m.vector))), X)
    assert [axis.name for axis in graph.axes] == ["a"]
    assert "vector" in graph.unreached


def test_a_gradient_reaches_what_a_call_reaches() -> None:
    result = secateur.prune(Using(SCALARS["multiplied"]), X, "macs=0.5")
    result.model(X).sum().backward()
    assert result.model.scale.grad is not None
