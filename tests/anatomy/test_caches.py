"""Models that keep what they computed from parameters: a cut must not leave it behind, a trace must not add to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
import secateur
from nets import Parts
from secateur.cost.count import count
from secateur.plan.parts import Cache

X = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))


def by_device(self: Any, x: Tensor) -> Tensor:
    key = str(x.device)
    if key not in self.table:
        self.table[key] = self.scale.exp()
    return self.c(self.a(x).relu() * self.table[key])


def by_length(self: Any, x: Tensor) -> Tensor:
    if not self.table:
        self.table["tables"] = [self.scale.exp()]
    return self.c(self.a(x).relu() * self.table["tables"][0])


def appended(self: Any, x: Tensor) -> Tensor:
    if len(self.rows) == 1:
        self.rows.append(self.scale.exp())
    return self.c(self.a(x).relu() * self.rows[-1])


def moved(self: Any, x: Tensor) -> Tensor:
    """What torchvision's anchors do: the only copy there is, cast to the type of the input."""
    self.constants = [row.to(x.dtype).to(x.device) for row in self.constants]
    self.named = {name: row.to(x.dtype).to(x.device) for name, row in self.named.items()}
    return self.c(self.a(x).relu()) * self.constants[0] + self.named["shift"]


def net(run: Any) -> nn.Module:
    layers = {"a": nn.Linear(6, 8), "c": nn.Linear(8, 5), "scale": nn.Parameter(torch.randn(8))}
    return laws.randomized(Parts(run, table={}, rows=["first"], **layers))


@pytest.mark.parametrize("run", [by_device, by_length, appended])
def test_a_model_that_ran_before_is_cut_like_a_fresh_one(run: Any, tmp_path: Path) -> None:
    model = net(run)
    plan = secateur.plan(secateur.trace(model, X), "channels=0.6", importance="random")
    assert plan.caches == (Cache("", "rows" if run is appended else "table"),)
    model(X)  # fills the cache
    pruned = secateur.cut(model, plan)
    laws.check_verified(model, pruned, plan, X)
    pruned(X)
    laws.check_verified(model, pruned, plan, X)
    secateur.save(pruned, tmp_path / "pruned.safetensors")
    again = secateur.load(model, tmp_path / "pruned.safetensors")
    assert torch.equal(again(X), pruned(X))


@pytest.mark.parametrize("run", [by_device, by_length, appended])
def test_what_looks_at_a_model_leaves_its_caches_alone(run: Any) -> None:
    model = net(run)
    count(model, X)
    secateur.trace(model, X)
    assert model.table == {}
    assert model.rows == ["first"]
    full = model(X)
    count(model, X)
    secateur.trace(model, X)
    assert torch.equal(model(X), full)


def test_what_forward_only_replaces_is_no_cache() -> None:
    model = net(moved)
    model.constants, model.named = [torch.full((5,), 2.0)], {"shift": torch.ones(5)}
    result = secateur.prune(model, X, "channels=0.6", importance="random", verify=True)
    assert result.plan.caches == ()
    assert result.plan.axes["a"].kept_count == 4
