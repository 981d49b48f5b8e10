"""What a model holds is put back as it was, and only what changed is written."""

from __future__ import annotations

from typing import Any, Final

import pytest
import torch
from torch import nn

import secateur
from secateur.anatomy.keeping import kept


class Slotted:
    __slots__ = ("__weakref__", "_empty", "size")

    def __init__(self, size: int):
        self.size = size


class Counted:
    """Counts how often its attribute is written."""

    written = 0

    def __init__(self) -> None:
        self.__dict__["size"] = 4

    def __setattr__(self, name: str, value: Any) -> None:
        type(self).written += 1
        self.__dict__[name] = value


class Once:
    """A slot that can be written once."""

    __slots__ = ("_size",)

    def __init__(self) -> None:
        object.__setattr__(self, "_size", 4)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("it is final")


def test_slots_get_their_values_back() -> None:
    model = nn.Linear(2, 2)
    model.held = Slotted(4)
    with kept(model):
        model.held.size, model.held._empty = 5, 1
    assert model.held.size == 4
    assert not hasattr(model.held, "_empty")


@pytest.mark.parametrize("held", [Slotted(4), Final, list[int], Counted()])
def test_a_model_that_holds_it_is_traced(held: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    model.held = [held]
    result = secateur.prune(model, torch.zeros(1, 4), "channels=0.5")
    assert result.model[0].out_features == 4
    assert model.held[0] is held


def test_a_model_that_holds_what_cannot_be_written_is_traced() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    model.held = Once()
    assert [axis.size for axis in secateur.trace(model, torch.zeros(1, 4)).axes] == [8]


def test_what_did_not_change_is_not_written() -> None:
    model = nn.Linear(2, 2)
    model.held = Counted()
    Counted.written = 0
    with kept(model):
        pass
    assert Counted.written == 0
