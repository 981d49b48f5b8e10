"""Integers that no call read: named where they may be out of date, and not otherwise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import secateur
from secateur.plan.plan import Plan
from secateur.planning.stale import names_read

X = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))


def scaled(x: torch.Tensor, module: Any) -> torch.Tensor:
    return x * torch.ones(module.width)


class Block(nn.Module):
    """Reads `width` behind a flag only; `inplanes` where it is made, `kernel` nowhere."""

    def __init__(self, width: int = 8, kernel: int = 3) -> None:
        super().__init__()
        self.width, self.inplanes, self.kernel = width, width, kernel
        self.a, self.b = nn.Linear(4, width), nn.Linear(self._planes(), 2)

    def _planes(self) -> int:
        return self.inplanes

    def forward(self, x: torch.Tensor, flag: bool = False) -> torch.Tensor:
        x = self.a(x)
        return self.b(self._flagged(x) if flag else x)

    def _flagged(self, x: torch.Tensor) -> torch.Tensor:
        return scaled(x, self)


def planned(model: nn.Module, *calls: Any) -> Plan:
    return secateur.plan(secateur.trace(model, (X,), calls=calls), "channels=0.5")


def test_what_another_path_reads_is_named() -> None:
    plan = planned(nn.Sequential(Block()))
    assert plan.notes["unread"] == "0.width (8)"
    told = " ".join(str(plan).split())
    assert "no call read 0.width (8): equal to a size that changes, and kept as it was; pass a call that reads" in told
    assert "unread" not in str(plan).splitlines()[0]
    assert Plan.from_json(plan.to_json()) == plan


def test_a_call_that_reads_it_lets_it_follow() -> None:
    plan = planned(Block(), {"x": X, "flag": True})
    assert "unread" not in plan.notes
    small = secateur.cut(Block(), plan)
    assert small.width == 4
    assert small(X, flag=True).shape == (2, 2)


@pytest.mark.parametrize("width", [6, 7])
def test_what_equals_no_size_that_changes_is_not(width: int) -> None:
    block = Block()
    block.width = width
    assert "unread" not in planned(block).notes


def test_names_are_those_that_forward_may_come_to() -> None:
    names = names_read(Block())
    assert {"width", "_flagged", "scaled"} <= names
    assert names.isdisjoint({"inplanes", "kernel", "_planes"})


def test_what_an_equality_compares_is_read() -> None:
    class Checked(Block):
        def forward(self, x: torch.Tensor, flag: bool = False) -> torch.Tensor:
            assert self.a(x).shape[1] == self.width
            return super().forward(x, flag)

    plan = planned(Checked())
    assert "unread" not in plan.notes
    assert secateur.cut(Checked(), plan).width == 4
