from __future__ import annotations

from typing import Any

from torch import nn

from secateur.anatomy.lists import close, drop, is_list, pick_at, reopened
from secateur.plan.parts import AttributeChange, Pick, Renumbering
from secateur.plan.renumbering import Names


class Layer(nn.Module):
    def __init__(self, layer_idx: int):
        super().__init__()
        self.layer_idx = layer_idx


class Stack(nn.Module):
    def __init__(self, count: int):
        super().__init__()
        self.count = count
        self.kinds = ["full", "local", "full", "local"][:count]
        self.layers = nn.ModuleList(Layer(i) for i in range(count))


REMOVED = {"layers.1"}
CLOSING = Renumbering(
    ("layers",),
    (
        AttributeChange("", "count", None, 4, 3),
        AttributeChange("layers.2", "layer_idx", None, 2, 1),
        AttributeChange("layers.3", "layer_idx", None, 3, 2),
    ),
    (Pick("", "kinds", ("full", "local", "full", "local"), (0, 2, 3)),),
)


def state(model: Stack) -> tuple[Any, ...]:
    return [*model.layers._modules], [layer.layer_idx for layer in model.layers], model.count, model.kinds


def closed() -> tuple[Stack, list[nn.Module]]:
    model = Stack(4)
    members = [*model.layers]
    close(dict(model.named_modules()), CLOSING, REMOVED)
    return model, members


def test_closing_renumbers_the_members_and_what_counts_them() -> None:
    model, members = closed()
    assert state(model) == (["0", "1", "2"], [0, 1, 2], 3, ["full", "full", "local"])
    assert [*model.layers] == [members[0], members[2], members[3]]


def test_a_reopened_model_has_its_former_names_and_numbers_within() -> None:
    model, members = closed()
    before, gap = state(model), nn.Identity()
    with reopened(model, CLOSING, {"layers.1": gap}, Names(REMOVED, CLOSING.lists)):
        assert [*model.layers] == [members[0], gap, members[2], members[3]]
        assert [members[i].layer_idx for i in (0, 2, 3)] == [0, 2, 3]
        assert (model.count, model.kinds) == (4, ["full", "local", "full", "local"])
    assert state(model) == before


def test_without_a_renumbering_nothing_is_reopened() -> None:
    model = Stack(3)
    before = state(model)
    with reopened(model, None, {}, Names((), ())):
        assert state(model) == before
    assert state(model) == before


def test_members_are_numbered_from_zero() -> None:
    layers = nn.ModuleList([nn.Identity() for _ in range(3)])
    assert is_list(layers)
    assert not is_list(nn.ModuleDict({"a": nn.Identity()}))
    drop(layers, ["0"])
    assert [*layers._modules] == ["0", "1"]
    assert is_list(layers)


def test_picking_keeps_the_kind_of_a_list() -> None:
    stack = Stack(3)
    stack.pair = (5, 6, 7)
    pick_at(stack, "pair", (0, 2))
    assert stack.pair == (5, 7)
