from __future__ import annotations

import random
from contextlib import AbstractContextManager

import numpy as np
import pytest
import torch
from torch import nn

from secateur.anatomy.running import call, device_of, mode, seeded, to_device


class Echo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> object:
        return x, y


def draws() -> tuple[float, float, float]:
    return torch.rand(1).item(), float(np.random.rand()), random.random()


def fail_in(manager: AbstractContextManager[None]) -> None:
    with manager:
        raise KeyError


def test_modes_are_restored_module_by_module() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    model[1].eval()
    before = [module.training for module in model.modules()]
    with mode(model, training=False):
        assert not any(module.training for module in model.modules())
    with pytest.raises(KeyError):
        fail_in(mode(model, training=False))
    assert [module.training for module in model.modules()] == before == [True, True, False, False]


def test_random_states_are_restored() -> None:
    torch.manual_seed(5)
    with seeded(1):
        first = draws()
    after = torch.rand(1)
    with seeded(1):
        assert draws() == first
    with seeded(2):
        assert draws() != first
    with pytest.raises(KeyError):
        fail_in(seeded(2))
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))


def test_numpy_and_python_are_restored_too() -> None:
    states = np.random.get_state()[1].tolist(), random.getstate()
    with seeded(1):
        draws()
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states


X = torch.ones(2)


@pytest.mark.parametrize("inputs", [(X, X), [X, X], {"x": X, "y": X}])
def test_several_inputs_in_the_dtype_of_the_model(inputs: object) -> None:
    x, y = call(Echo(), inputs)
    assert (x.dtype, y.dtype) == (torch.float64, torch.float64)


def test_whole_numbers_keep_their_dtype() -> None:
    assert call(Echo(), torch.tensor([1, 2]))[0].dtype == torch.int64


def test_devices() -> None:
    with torch.device("meta"):
        model = nn.Linear(1, 1)
    assert device_of(model) == torch.device("meta")
    assert device_of(nn.ReLU()) == torch.device("cpu")
    moved = to_device({"a": [X, "text"]}, torch.device("meta"))
    assert (moved["a"][0].device.type, moved["a"][1]) == ("meta", "text")
