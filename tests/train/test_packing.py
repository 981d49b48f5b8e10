from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from secateur.errors import FileError, InputError
from secateur.train.packing import pack, unpack
from secateur.train.randomness import put_random_state, random_state

VALUES: list[Any] = [
    {"step": 3, 0: [1.5, None, True], "deep": {"a": (torch.ones(2), "x", ())}},
    [math.inf, -0.0, 1e-300, 2**70],
    (torch.tensor(1.5, dtype=torch.bfloat16), torch.zeros(0), torch.arange(3)),
    {},
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
    with pytest.raises(InputError, match="a checkpoint holds tensors, numbers and texts, but met function"):
        pack({"hook": test_nothing_else_is_packed}, {})


@pytest.mark.parametrize("data", [{"@": "3"}, {"{}": [1]}, {"()": 1}, {"?": 1}, {"a": 1, "b": 2}])
def test_what_was_not_packed(data: Any) -> None:
    with pytest.raises(FileError, match="damaged: "):
        unpack(data, {})


def test_random_generators_go_on_from_a_file() -> None:
    import random

    import numpy as np

    def drawn() -> tuple[float, float, float, float]:
        return random.gauss(0, 1), np.random.randn(), torch.randn(1).item(), random.random()

    drawn()  # a gauss and a randn are kept in reserve
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(pack(random_state(), tensors))
    first = drawn()
    put_random_state(unpack(json.loads(text), tensors))
    assert drawn() == first
