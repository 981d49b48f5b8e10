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
from secateur.base import modes
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
        with modes.unseen():
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


def assigned(self: Any, x: Tensor) -> Tensor:
    self.a.weight.data = self.a.weight.data * 0.5
    return self.a(x)


def transposed(self: Any, x: Tensor) -> Tensor:
    self.a.weight.data = self.a.weight.data.t()
    return self.a(x)


def assigned_while_viewed(self: Any, x: Tensor) -> Tensor:
    x = x @ self.a.weight.t()  # fills it, and the view is gone
    view = self.a.weight.t()
    self.a.weight.data = self.a.weight.data * 0.5
    del view
    x = self.c(x)
    return self.a(x)


def exchanged(self: Any, x: Tensor) -> Tensor:
    torch.utils.swap_tensors(self.a.weight, nn.Parameter(torch.ones_like(self.a.weight)))
    return self.a(x)


@pytest.mark.parametrize(
    "run", [written, looped, viewed, written_by_a_view, assigned, transposed, assigned_while_viewed, exchanged]
)
def test_it_stays_filled_where_it_must(run: Callable[..., Tensor], small: None) -> None:
    model = layer(run, a=nn.Linear(8, 8), b=nn.Identity(), c=nn.Linear(8, 8))
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


class Views(nn.Module):
    """One view of a weight is there to the end, those of others come and go."""

    def __init__(self, width: int):
        super().__init__()
        sizes = {"a": (width, 8), "b": (8, width), "c": (12, 8)}
        for name, size in sizes.items():
            setattr(self, name, nn.Parameter(torch.rand(size)))
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = self.a.t()
        x = (x @ first).relu() @ self.b.t()
        return self.out(x @ self.c.t())


@pytest.mark.parametrize("width", [12, 16])
def test_views_may_go_in_another_order_than_they_came(width: int, small: None) -> None:
    """Those of one size could be compared by value, those of several not even that."""
    model = Views(width)
    _, out = during(model)
    with torch.no_grad():
        assert torch.equal(out, model.double()(X.double()))


def test_attention_with_a_bias_of_keys_is_proved(small: None) -> None:
    attention = nn.MultiheadAttention(16, 4, batch_first=True, add_bias_kv=True)
    run = lambda self, x: self.o(self.m(y := self.i(x), y, y, need_weights=False)[0])  # noqa: E731
    model = layer(run, i=nn.Linear(8, 16), m=attention, o=nn.Linear(16, 3)).eval()
    assert secateur.prune(model, (torch.rand(2, 5, 8),), "channels=0.5", verify=True).proved


def unseen(self: Any, x: Tensor) -> Tensor:
    with torch._C.DisableTorchFunction():
        return self.b(x @ self.a.weight.t())


def caught(self: Any, x: Tensor) -> Tensor:
    try:
        return unseen(self, x)
    except Exception:  # noqa: BLE001 - as some models do, to fall back on something slower
        return self.b(x)


def caught_and_raised(self: Any, x: Tensor) -> Tensor:
    try:
        return unseen(self, x)
    except Exception as error:
        raise ValueError("no such kernel") from error


@pytest.mark.parametrize("run", [unseen, caught, caught_and_raised])
def test_what_hides_a_read_runs_with_all_filled(run: Callable[..., Tensor], small: None) -> None:
    model = layer(run, a=nn.Linear(8, 8), b=nn.Linear(8, 8))
    with pytest.raises(ondemand.UnfilledRead):
        during(model)
    (out,) = ReplayJob([Call((X,))]).run(model).tensors
    with torch.no_grad():
        assert torch.equal(out, model.double()(X.double()))


def test_memory_is_taken_over(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten layers one is in float64 at a time."""
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(10)])
    places = set()
    fill = lambda old, into: (copy(old, into), places.add(into.untyped_storage()._cdata))  # noqa: E731
    with torch.no_grad(), kept(model), swapped(model, fill):
        model(X.double())
    assert len(places) == 1
