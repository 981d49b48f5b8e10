"""Tensors that no op makes: copies, subclasses, exchange formats. Their units are those of the source, or all stay."""

from __future__ import annotations

import copy
import ctypes
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.dlpack import from_dlpack, to_dlpack

import secateur
from nets import Parts

X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


class Image(Tensor):
    """A subclass that adds nothing."""


class Box:
    def __init__(self, held: Tensor):
        self.held = held


def given_data(h: Tensor) -> Tensor:
    made = torch.zeros(5, 16)
    made.data = h
    return made


def loaded(h: Tensor, **options: Any) -> Tensor:
    file = io.BytesIO()
    torch.save(h, file)
    file.seek(0)
    return torch.load(file, **options)


def passed_on(h: Tensor) -> Tensor:
    rebuild, arguments = torch.multiprocessing.reductions.reduce_tensor(h)
    return rebuild(*arguments)


def over_the_storage(h: Tensor) -> Tensor:
    return torch.empty(0).set_(h.untyped_storage(), 0, h.shape, h.stride())


def by_address(h: Tensor) -> Tensor:
    numbers = (ctypes.c_float * 80).from_address(h.data_ptr())
    return torch.frombuffer(numbers, dtype=torch.float32).view(5, 16)


FOLLOWED: dict[str, Callable[[Tensor], Tensor]] = {
    "deepcopy": copy.deepcopy,
    "deepcopy of a dict": lambda h: copy.deepcopy({"h": h})["h"],
    "deepcopy of an object": lambda h: copy.deepcopy(Box(h)).held,
    "copied twice": lambda h: copy.deepcopy([h, h])[1],
    "copy": copy.copy,
    "a parameter": nn.Parameter,
    "a copied parameter": lambda h: copy.deepcopy(nn.Parameter(h)),
    "data": lambda h: nn.Parameter(h).data,
    "given data": given_data,
    "as_subclass": lambda h: h.as_subclass(Image).relu(),
    "as_subclass and back": lambda h: h.as_subclass(Image).relu().as_subclass(Tensor),
    "dlpack, past all": lambda h: from_dlpack(to_dlpack(h)),
    "dlpack of a transposed one": lambda h: from_dlpack(to_dlpack(h.t())).t(),
    "new": lambda h: h.new(h),
}
STAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "pickle": lambda h: pickle.loads(pickle.dumps(h)),
    "pickle of a parameter": lambda h: pickle.loads(pickle.dumps(nn.Parameter(h))),
    "a file": loaded,
    "a file of weights": lambda h: loaded(nn.Parameter(h), weights_only=True),
    "from_dlpack": torch.from_dlpack,
    "numpy": lambda h: torch.from_numpy(h.numpy().copy()),
    "numpy.from_dlpack": lambda h: torch.from_numpy(np.from_dlpack(h)),
    "another process": passed_on,
    "a storage": over_the_storage,
    "a copied storage": lambda h: torch.empty(0).set_(h.untyped_storage().clone()).view(5, 16),
    "an address": by_address,
    "copy of a subclass": lambda h: copy.copy(h.as_subclass(Image)),
    "a parameter of a copy": lambda h: nn.Parameter(copy.copy(h)),
}


def net(way: Callable[[Tensor], Tensor]) -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        return self.c(self.b(self.way(self.a(x).detach()).relu()).relu())

    torch.manual_seed(0)
    return Parts(run, way=way, a=nn.Linear(8, 16), b=nn.Linear(16, 12), c=nn.Linear(12, 3)).eval()


@pytest.mark.parametrize("way", FOLLOWED)
def test_copies_have_the_units_of_the_source(way: str) -> None:
    r = secateur.prune(net(FOLLOWED[way]), (X,), "channels=0.5", verify=True)
    assert {axis.name: axis.size for axis in r.graph.axes} == {"a": 16, "b": 12}


@pytest.mark.parametrize("way", STAYS)
def test_what_cannot_be_tracked_is_frozen_on_both_sides(way: str) -> None:
    r = secateur.prune(net(STAYS[way]), (X,), "channels=0.5", verify=True)
    assert {axis.name: axis.size for axis in r.graph.axes} == {"b": 12}
    frozen = {(f.name, f.dim): f.reason for f in r.graph.frozen}
    assert "outside PyTorch" in frozen["a.weight", 0] or "left PyTorch" in frozen["a.weight", 0]
    assert ("b.weight", 1) in frozen


def test_an_output_of_a_subclass_stays() -> None:
    model = Parts(lambda self, x: self.a(x).as_subclass(Image), a=nn.Linear(8, 16)).eval()
    assert not secateur.trace(model, (X,)).axes


def test_code_that_asks_for_a_subclass_gets_it() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        assert isinstance(x, Image)
        return self.b(self.a(x).relu())

    model = Parts(run, a=nn.Linear(8, 16), b=nn.Linear(16, 3)).eval()
    assert secateur.prune(model, (X.as_subclass(Image),), "channels=0.5").proved


def weight_copied(self: Any, x: Tensor) -> Tensor:
    return self.b(F.linear(x, copy.deepcopy(self.a.weight)))


def module_copied(self: Any, x: Tensor) -> Tensor:
    return self.b(copy.deepcopy(self.a)(x))


def weight_assigned(self: Any, x: Tensor) -> Tensor:
    self.a.weight = nn.Parameter(self.a.weight * 0.5)
    return self.b(self.a(x))


@pytest.mark.parametrize("forward", [weight_copied, module_copied, weight_assigned])
def test_copies_of_parameters_are_those_parameters(forward: Callable[[Any, Tensor], Tensor]) -> None:
    model = Parts(forward, a=nn.Linear(8, 16), b=nn.Linear(16, 3)).eval()
    r = secateur.prune(model, (X,), "channels=0.5", verify=True)
    assert [axis.name for axis in r.graph.axes] == ["a"]
