"""Parameters filled while they are read: runs as with all of them filled, and what the memory is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
import secateur
from nets import NETS, Parts
from secateur.anatomy.calls import Call
from secateur.anatomy.keeping import kept
from secateur.anatomy.structure import distance
from secateur.proof import ondemand
from secateur.proof.lifted import copy, swapped
from secateur.proof.replay import ReplayJob

X = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every parameter counts as large."""
    monkeypatch.setattr(ondemand, "LARGE", 1)


@pytest.mark.parametrize("name", NETS)
def test_a_run_is_as_with_all_filled(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = NETS[name]
    model, job = laws.randomized(net.make()), ReplayJob([Call.of(net.example())])
    at_once = job.run(model).tensors
    monkeypatch.setattr(ondemand, "LARGE", 1)
    assert distance(job.run(model).tensors, at_once) < 1e-14  # a convolution of other memory may round otherwise


@pytest.mark.parametrize("name", [name for name, net in NETS.items() if net.axes])
def test_a_cut_is_proved(name: str, small: None) -> None:
    net = NETS[name]
    assert secateur.prune(laws.randomized(net.make()), net.example(), "channels=0.6", verify=True).proved


def layer(run: Callable[..., Tensor], **parts: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return Parts(run, **parts or {"a": nn.Linear(8, 8)})


def filled(model: nn.Module) -> list[bool]:
    """Whether each parameter holds its values."""
    return [not bool(torch.isnan(p).all()) for p in model.parameters()]


def during(model: nn.Module) -> tuple[list[bool], Any]:
    """Which parameters hold their values when a run is over, and its result."""
    with torch.no_grad(), kept(model), swapped(model):
        out = model(X.double())
        with torch._C.DisableTorchFunction(), torch.utils._python_dispatch._disable_current_modes():
            return filled(model), out


def test_a_parameter_is_filled_only_while_it_is_read(small: None) -> None:
    model = layer(lambda self, x: self.b(self.a(x)), a=nn.Linear(8, 8), b=nn.Linear(8, 2))
    holds, out = during(model)
    assert holds == [False] * 4
    assert torch.equal(out, model.double()(X.double()))


def written(self: Any, x: Tensor) -> Tensor:
    self.a.weight.mul_(2.0)
    return self.a(x)


def looped(self: Any, x: Tensor) -> Tensor:
    for _ in range(4):
        x = self.a(x)
    return x


def viewed(self: Any, x: Tensor) -> Tensor:
    self.kept_view = self.a.weight.t()
    return x @ self.kept_view


def written_by_a_view(self: Any, x: Tensor) -> Tensor:
    self.a.weight.t().mul_(2.0)
    return self.a(self.b(x))


@pytest.mark.parametrize("run", [written, looped, viewed, written_by_a_view])
def test_it_stays_filled_where_it_must(run: Callable[..., Tensor], small: None) -> None:
    model = layer(run, a=nn.Linear(8, 8), b=nn.Identity())
    wanted = ReplayJob([Call((X,))]).run(model).tensors[0]
    holds, out = during(model)
    assert holds[0]
    assert torch.equal(out, wanted)
    with torch.no_grad():
        assert torch.equal(out, run(model.double(), X.double()))


def test_it_is_emptied_once_the_views_of_it_are_gone(small: None) -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        one, two = self.a.weight.chunk(2)
        x = torch.cat([x @ one.t(), x @ two.t()], 1)
        del one, two
        return self.b(x)

    model = layer(run, a=nn.Linear(8, 8, bias=False), b=nn.Linear(8, 8))
    holds, out = during(model)
    assert not holds[0]
    assert torch.equal(out, model.double()(X.double()))


def test_what_reads_past_torch_functions_runs_with_all_filled(small: None) -> None:
    """`vmap` wraps a parameter before any function sees it."""

    def run(self: Any, x: Tensor) -> Tensor:
        return torch.func.vmap(lambda row: (row * x).sum(-1))(self.a.weight).t()

    model = layer(run)
    with pytest.raises(ondemand.UnfilledRead):
        during(model)
    (out,) = ReplayJob([Call((X,))]).run(model).tensors
    assert torch.equal(out, model.double()(X.double()))


def test_a_parameter_that_is_returned_is_filled(small: None) -> None:
    model = layer(lambda self, x: self.a.weight)
    (out,) = ReplayJob([Call((X,))]).run(model).tensors
    assert torch.equal(out, model.a.weight.detach().double())


def test_memory_is_taken_over(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten layers one is in float64 at a time."""
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(10)])
    places = set()
    fill = lambda old, into: (copy(old, into), places.add(into.untyped_storage()._cdata))  # noqa: E731
    with torch.no_grad(), kept(model), swapped(model, fill):
        model(X.double())
    assert len(places) == 1
