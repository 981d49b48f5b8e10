from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from secateur.anatomy.bypass import Bypass, bypass, is_bypass, put_bypasses


@pytest.mark.parametrize(
    ("gives", "expected"),
    [
        (0, "x"),
        (1, "y"),
        ("mask", "m"),
        ((0,), ("x",)),
        ((0, None, "mask"), ("x", None, "m")),
        (("mask", 1), ("m", "y")),
    ],
)
def test_arguments_come_back_as_the_output_of_the_block_was(gives: object, expected: object) -> None:
    assert Bypass(gives)("x", "y", mask="m") == expected


def test_bypasses_replace_blocks_in_their_place_and_mode() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Identity())
    model[1].eval()
    put_bypasses(dict(model.named_modules()), {"0": None, "1.0": (0, None)})
    assert [is_bypass(module) for module in (model[0], model[1], model[1][0], model[1][1], model[2])] == [
        *(True, False, True, False),
        False,
    ]
    assert type(model[0]) is nn.Identity
    assert model[0].training
    assert not model[1][0].training
    assert model[1][0](3) == (3, None)
    assert not model.state_dict()


def test_a_copy_is_a_bypass_and_shows_what_it_gives() -> None:
    block = copy.deepcopy(bypass(0, training=False))
    assert is_bypass(block)
    assert repr(block) == "Bypass(gives=0)"
    x = torch.ones(1)
    assert block(x) is x
