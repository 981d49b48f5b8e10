from __future__ import annotations

import torch
from torch import nn

from secateur.anatomy.slots import replace_held, slots, swapped


class Holding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 2, bias=False)
        self.again = self.a
        self.register_buffer("kept", torch.ones(2))
        self.register_buffer("lost", torch.ones(2), persistent=False)
        self.plain = torch.ones(4)
        self.number = 3
        self.listed = [self.a.weight, {"inner": (self.plain, 1)}]


def test_every_place_is_named_and_shared_modules_under_each_name() -> None:
    model = Holding()
    found = {slot.name: slot for slot in slots(model)}
    assert {name: slot.persistent for name, slot in found.items()} == {
        "kept": True,
        "lost": False,
        "plain": False,
        "a.weight": True,
        "again.weight": True,
    }
    assert found["a.weight"].place == found["again.weight"].place != found["kept"].place
    assert found["plain"].tensor is model.plain
    found["kept"].table["kept"] = new = torch.zeros(1)
    assert model.kept is new


def test_new_tensors_replace_the_old_ones_in_new_containers() -> None:
    model = Holding()
    listed, plain, number = model.listed, model.plain, model.number
    weight, new = model.a.weight, torch.zeros(1)
    replace_held(model, {id(weight): new, id(plain): torch.zeros(2)})
    assert model.listed[0] is new
    assert torch.equal(model.listed[1]["inner"][0], torch.zeros(2))
    assert torch.equal(model.plain, torch.zeros(2))
    assert model.a.weight is weight
    assert model.number == number
    assert listed[0] is weight
    assert listed[1]["inner"] == (plain, 1)


def test_containers_without_an_old_tensor_stay_the_same_objects() -> None:
    old, new = torch.ones(1), torch.zeros(1)
    other = [torch.ones(1), (2, "x")]
    assert swapped(other, {id(old): new}, depth=3) is other
    deep = [[[old]]]
    assert swapped(deep, {id(old): new}, depth=3)[0][0][0] is new
    assert swapped(deep, {id(old): new}, depth=2) is deep
    assert type(swapped((old,), {id(old): new}, depth=1)) is tuple
