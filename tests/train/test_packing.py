from __future__ import annotations

import json
import math
import random
from typing import Any

import numpy as np
import pytest
import torch

from secateur.errors import FileError, InputError
from secateur.train.packing import pack, unpack
from secateur.train.randomness import Dice

VALUES: list[Any] = [
    {"step": 3, 0: [1.5, None, True], "deep": {"a": (torch.ones(2), "x", ())}},
    [math.inf, -0.0, 1e-300, 2**70],
    (torch.tensor(1.5, dtype=torch.bfloat16), torch.zeros(0), torch.arange(3)),
    {},
    {"array": np.arange(6, dtype=np.uint64).reshape(2, 3), "none": np.zeros((0, 2), np.float32)},
]


@pytest.mark.parametrize("value", VALUES)
def test_what_is_packed_comes_back(value: Any) -> None:
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(pack(value, tensors))
    back = unpack(json.loads(text), tensors)
    assert str(back) == str(value)  # types, order and digits; tensors print their values
    assert type(back) is type(value)


def test_optimizers_come_back() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(pack(optimizer.state_dict(), tensors))
    other = torch.optim.AdamW(model.parameters(), lr=0.5)
    other.load_state_dict(unpack(json.loads(text), tensors))
    assert str(other.state_dict()) == str(optimizer.state_dict())


def test_nothing_else_is_packed() -> None:
    with pytest.raises(InputError, match="a checkpoint cannot store a function, only tensors, numbers and strings: "):
        pack({"hook": test_nothing_else_is_packed}, {})


@pytest.mark.parametrize(
    "data", [{"@": "3"}, {"{}": [1]}, {"()": 1}, {"?": 1}, {"#": ["x", [1], []]}, {"a": 1, "b": 2}]
)
def test_what_was_not_packed(data: Any) -> None:
    with pytest.raises(FileError, match="damaged: "):
        unpack(data, {})


def test_random_generators_go_on_from_a_file() -> None:
    bits = [np.random.PCG64(1), np.random.MT19937(1), np.random.Philox(1), np.random.SFC64(1)]
    numpy = [*map(np.random.Generator, bits), np.random.RandomState(1)]
    own = [random.Random(1), torch.Generator().manual_seed(1)]
    dice = Dice.of([*numpy, *own])

    def drawn() -> list[float]:
        ours = [own[0].gauss(0, 1), torch.randn(1, generator=own[1]).item(), *(one.normal() for one in numpy)]
        return [random.gauss(0, 1), np.random.randn(), torch.randn(1).item(), random.random(), *ours]

    drawn()  # a gauss and a randn are kept in reserve
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(pack(dice.state(), tensors))
    first = drawn()
    dice.put(unpack(json.loads(text), tensors))
    assert drawn() == first
