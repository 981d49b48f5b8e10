from __future__ import annotations

import pytest
import torch
from torch import nn

import secateur
from nets import NETS
from secateur.anatomy.slots import slots
from secateur.errors import FileError
from secateur.files.fitting import Stored, fit


def test_slots_are_all_tensors_by_every_name() -> None:
    model = NETS["shared"].make()
    named = {slot.name: slot.tensor for slot in slots(model)}
    assert named.keys() == model.state_dict().keys()
    assert named["up.weight"] is named["again.weight"]
    assert {slot.place for slot in slots(model) if slot.name in ("up.weight", "again.weight")} == {
        (id(model.up._parameters), "weight")  # type: ignore[union-attr]
    }


def test_attributes_and_some_buffers_are_no_part_of_the_state() -> None:
    model = nn.Module()
    model.register_buffer("kept", torch.ones(1))
    model.register_buffer("lost", torch.ones(1), persistent=False)
    model.plain = torch.ones(1)
    assert {slot.name: slot.persistent for slot in slots(model)} == {"kept": True, "lost": False, "plain": False}


def test_fitting_changes_nothing_until_it_is_put() -> None:
    model = NETS["plain_cnn"].make()
    plan = secateur.plan(secateur.trace(model, NETS["plain_cnn"].example()), "channels=0.5")
    pruned = secateur.cut(model, plan)
    fitted = fit(model, (plan,), Stored(pruned.state_dict(), {}), None)
    assert [tuple(p.shape) for p in model.parameters()] != [tuple(p.shape) for p in pruned.parameters()]
    assert model.conv1.out_channels == 8  # type: ignore[union-attr]
    fitted.put()
    assert [tuple(p.shape) for p in model.parameters()] == [tuple(p.shape) for p in pruned.parameters()]
    assert model.conv1.out_channels == pruned.conv1.out_channels == 4  # type: ignore[union-attr]


def test_what_is_stored_is_copied() -> None:
    model, stored = nn.Linear(2, 2), nn.Linear(2, 2).state_dict()
    fit(model, (), Stored(stored, {}), None).put()
    stored["weight"].zero_()
    assert model.weight.abs().sum() > 0


def test_a_difference_names_both_sides() -> None:
    with pytest.raises(FileError, match=r"weight: file \(3, 2\) float32, model \(2, 2\) float32"):
        fit(nn.Linear(2, 2), (), Stored({"weight": torch.ones(3, 2), "bias": torch.ones(2)}, {}), None)
