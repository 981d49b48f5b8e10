from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from secateur.anatomy.structure import difference, distance, same_infinities


class Sized(nn.Linear):
    def __init__(self, width: int, sizes: tuple[int, ...] = (1, 2), **more: int):
        super().__init__(width, 2)
        self.sizes = sizes
        self.__dict__.update(more)


def test_models_that_differ_in_weights_alone_are_alike() -> None:
    assert difference(Sized(3), Sized(3)) is None
    assert difference(Sized(3, calls=4), Sized(3)) is None


@pytest.mark.parametrize(
    ("model", "wanted", "found"),
    [
        (nn.Sequential(nn.ReLU()), nn.Sequential(nn.GELU()), "module '0' is ReLU, the plan produces GELU"),
        (nn.Sequential(), nn.Sequential(nn.ReLU()), "module '0' is missing, the plan produces ReLU"),
        (nn.Linear(3, 2), nn.Linear(3, 2, bias=False), "the shape of bias is (2,), the plan produces none"),
        (nn.BatchNorm1d(3), nn.BatchNorm1d(4), "the shape of weight is (3,), the plan produces (4,)"),
        (Sized(3, (1, 2)), Sized(3, (1, 3)), "sizes is (1, 2), the plan produces (1, 3)"),
        (Sized(3, heads=2), Sized(3, heads=3), "heads is 2, the plan produces 3"),
        (Sized(3), Sized(3, heads=3), "heads is missing, the plan produces 3"),
    ],
)
def test_the_first_difference_is_named(model: nn.Module, wanted: nn.Module, found: str) -> None:
    assert difference(model, wanted) == found


INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("x", "y", "same"),
    [
        ([1.0, INF], [2.0, INF], True),
        ([1.0, INF], [1.0, -INF], False),
        ([1.0, INF], [INF, 1.0], False),
        ([1.0, NAN], [1.0, NAN], False),
        ([1.0], [1.0, INF], True),
    ],
)
def test_infinities(x: list[float], y: list[float], same: bool) -> None:
    assert same_infinities(torch.tensor(x), torch.tensor(y)) is same


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (torch.tensor([1.0, -4.0]), torch.tensor([1.0, -3.0]), 0.25),
        (torch.tensor([1.0, INF]), torch.tensor([2.0, INF]), 0.5),
        (torch.tensor([1.0, INF]), torch.tensor([1.0, 2.0]), INF),
        (torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 5]), 0.25),
        (torch.tensor([3 + 4j]), torch.tensor([0j]), 1.0),
        (torch.zeros(2), torch.zeros(2), 0.0),
        (torch.zeros(0), torch.zeros(0), 0.0),
        (torch.zeros(2), torch.zeros(3), INF),
    ],
)
def test_distances_are_relative_to_the_largest_value(x: Tensor, y: Tensor, expected: float) -> None:
    assert distance([x], [y]) == pytest.approx(expected)


def test_distances_are_the_largest_over_all_outputs() -> None:
    one, other = torch.ones(2), torch.tensor([1.0, 0.5])
    assert distance([one, one], [one, other]) == 0.5
    assert distance([one], [one, one]) == math.inf
    assert distance([], []) == math.inf
