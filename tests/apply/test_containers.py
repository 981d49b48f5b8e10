"""Configs that are locked once they are made: models that hold them are traced, copied, cut and proved."""

from __future__ import annotations

import copy
from collections import OrderedDict, deque
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur

X = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def locked(kind: type, *methods: str) -> type:
    """A subclass that refuses these methods once it is made."""

    class Locked(kind):  # type: ignore[misc]
        def __init__(self, *content: Any):
            super().__init__(*content)
            self.__dict__["_locked"] = True

    def refusing(name: str) -> Any:
        def method(self: Any, *args: Any) -> Any:
            if vars(self).get("_locked") or name.startswith("__set"):
                raise RuntimeError("this config cannot be changed")
            return getattr(kind, name)(self, *args)

        return method

    for name in (*methods, "clear", "pop", "__setattr__"):
        setattr(Locked, name, refusing(name))
    return Locked


DICT = ("__setitem__", "__delitem__", "update", "setdefault", "popitem")
LIST = ("__setitem__", "__delitem__", "append", "extend", "insert")
LOCKED = {
    "dict": lambda: locked(dict, *DICT)({"width": 16, "tensor": torch.ones(2)}),
    "OrderedDict": lambda: ordered(),
    "list": lambda: locked(list, *LIST)([16, torch.ones(2)]),
    "set": lambda: locked(set, "add", "update", "discard", "remove")({16, 3}),
    "deque": lambda: locked(deque, *LIST, "appendleft", "popleft")([16, 3]),
}
WRITES = {
    "dict": lambda held: dict.__setitem__(held, "new", 1),
    "OrderedDict": lambda held: OrderedDict.__setitem__(held, "new", 1),
    "list": lambda held: list.append(held, 1),
    "set": lambda held: set.add(held, 1),
    "deque": lambda held: deque.append(held, 1),
}


def ordered() -> Any:
    made = locked(OrderedDict, *DICT)()
    OrderedDict.__setitem__(made, "width", 16)
    return made


class Net(nn.Module):
    def __init__(self, config: Any, write: Any = None):
        super().__init__()
        self.config, self.write = config, write
        self.a, self.b = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.write:
            self.write(self.config)
        return self.b(torch.relu(self.a(x)))


@pytest.mark.parametrize("name", LOCKED)
def test_a_model_with_a_locked_config_is_cut(name: str) -> None:
    torch.manual_seed(0)
    config = LOCKED[name]()
    model = Net(config)
    result = secateur.prune(model, X, "macs=0.5", verify=True)
    copied = result.model.config
    assert result.verification.passed
    assert result.model.a.out_channels == 8
    assert model.config is config
    assert type(copied) is type(config)
    assert copied is not config
    assert vars(copied) == {"_locked": True}
    assert [repr(item) for item in copied] == [repr(item) for item in config]


@pytest.mark.parametrize("name", WRITES)
def test_what_forward_writes_past_the_lock_is_taken_back(name: str) -> None:
    config = LOCKED[name]()
    before = copy.copy(list(config))
    secateur.trace(Net(config, WRITES[name]), X)
    assert [*map(repr, config)] == [*map(repr, before)]


def test_tensors_in_a_locked_config_are_copied_once() -> None:
    model = Net(LOCKED["dict"]())
    model.same = model.config["tensor"]
    small = secateur.cut(model, secateur.plan(secateur.trace(model, X), "macs=0.5"))
    assert small.config["tensor"] is small.same
    assert small.same is not model.same
