"""Training mode is recorded where it can differ from evaluation mode, and a training step runs after every cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from secateur.trace.training import branches

WIDTH = 32
X = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))


class Gate(nn.Module):
    """Two layers with something between them that only training does."""

    def __init__(self, mode: Callable[[Any, Tensor], Tensor], **parts: Any):
        super().__init__()
        self.a, self.b, self.h, self._mode = nn.Linear(12, WIDTH), nn.Linear(WIDTH, 4), WIDTH, [mode]
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        if self.training:
            h = self._mode[0](self, h)
        return self.b(h)


def written(self: Any, h: Tensor) -> Tensor:
    self.masks = torch.bernoulli(torch.full((64, self.h), 0.8))
    return h * self.masks[: h.shape[1]]


CASES: dict[str, tuple[Callable[[Any, Tensor], Tensor], dict[str, Any]]] = {
    "masks": (lambda self, h: h * self.masks[: h.shape[1]], {"masks": torch.ones(64, WIDTH)}),
    "masks in a list": (lambda self, h: h * self.masks[0], {"masks": [torch.ones(WIDTH)]}),
    "masks in a dict": (lambda self, h: h * self.masks["h"], {"masks": {"h": torch.ones(WIDTH)}}),
    "a buffer": (lambda self, h: h * self.scale, {"scale": nn.Buffer(torch.ones(WIDTH))}),
    "redrawn": (written, {"masks": torch.ones(64, WIDTH)}),
    "a literal size": (lambda self, h: h + torch.randn(WIDTH), {}),
    "an attribute's size": (lambda self, h: h + torch.randn(self.h), {}),
    "a further layer": (lambda self, h: h + self.c(h), {"c": nn.Linear(WIDTH, WIDTH)}),
    "dropout": (lambda self, h: F.dropout(h, 0.5, self.training), {}),
}


HELD = {
    "masks in a list": "a constant tensor",
    "masks in a dict": "a constant tensor",
    "a literal size": "created with a literal size",
}
"""Where a size is written down, or held where nothing can change it, the axis stays."""


@pytest.mark.parametrize("name", sorted(CASES.keys() - HELD))
def test_a_training_step_runs_after_a_cut(name: str) -> None:
    mode, parts = CASES[name]
    pruned = secateur.prune(Gate(mode, **parts).eval(), X, "channels=0.7")
    model = pruned.model.train()
    model(X).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert model(X).shape == (2, 5, 4)
    assert model.a.out_features == 22
    assert pruned.report["untrained"] is None


@pytest.mark.parametrize("name", HELD)
def test_what_training_fixes_stays(name: str) -> None:
    mode, parts = CASES[name]
    graph = secateur.trace(Gate(mode, **parts).eval(), X)
    assert not graph.axes
    assert HELD[name] in next(f.reason for f in graph.frozen if f.name == "a.weight" and f.dim == 0)


def needs_targets(self: Any, h: Tensor) -> Tensor:
    raise ValueError("targets should not be none when in training mode")


def test_a_training_mode_that_does_not_run_is_reported() -> None:
    pruned = secateur.prune(Gate(needs_targets).eval(), X, "channels=0.7")
    why = "ValueError: targets should not be none when in training mode"
    assert pruned.report["untrained"] == why
    for text in (str(pruned), str(pruned.graph)):
        assert "training mode was not covered, because a call in it failed: ValueError: targets" in text
    assert secateur.trace(nn.Sequential(nn.Linear(12, 8), nn.Linear(8, 4)), X).diagnosis.untrained is None


class Base(nn.Module):
    gradient_checkpointing, p = False, 0.1


class Branch(Base):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x + 1
        return x


class Negated(Base):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x + 1


class Within(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.noisy(x)

    def noisy(self, x: Tensor) -> Tensor:
        return (lambda y: y + 1 if self.training else y)(x)


class Argument(Base):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)


class Chosen(Base):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p if self.training else 0.0)


class Unchosen(Base):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.0 if not self.training else self.p)


class Guarded(Base):
    def forward(self, x: Tensor) -> Tensor:
        if self.gradient_checkpointing and self.training:
            x = x + 1
        return x


@pytest.mark.parametrize("kind", [Branch, Negated, Within])
def test_code_that_branches_on_the_mode(kind: type[nn.Module]) -> None:
    assert branches(nn.Sequential(kind()))


@pytest.mark.parametrize("kind", [Argument, Chosen, Unchosen, Guarded, nn.Dropout, nn.BatchNorm2d])
def test_code_that_does_not(kind: Any) -> None:
    assert not branches(nn.Sequential(kind(3) if kind is nn.BatchNorm2d else kind()))


def test_a_guard_that_is_on_lets_a_branch_be_met() -> None:
    model = Guarded()
    model.gradient_checkpointing = True
    assert branches(model)
