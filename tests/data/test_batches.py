from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from secateur.data import Batches


def make(examples: int, batch_size: int, seed: int | None) -> Batches:
    def load(indices: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(indices * 10.0).to(torch.float32)

    return Batches(load, torch.arange(examples), batch_size, seed)


def order(batches: Batches, epoch: int) -> list[int]:
    return [int(y) for _, targets in batches.epoch(epoch) for y in targets]


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize(("examples", "batch_size"), [(1, 4), (9, 4), (8, 4), (10, 1), (65, 64)])
def test_every_example_once_in_batches_of_like_size(examples: int, batch_size: int, seed: int | None) -> None:
    batches = make(examples, batch_size, seed)
    sizes = [len(y) for _, y in batches]
    assert sorted(order(batches, 0)) == list(range(examples))
    assert len(sizes) == len(batches)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("seed", [None, 3])
def test_inputs_stay_beside_their_targets(seed: int | None) -> None:
    assert all(torch.equal(x, y * 10.0) for x, y in make(20, 6, seed))


def test_without_a_seed_in_order() -> None:
    assert order(make(7, 3, None), 5) == list(range(7))


def test_an_epoch_is_always_the_same_and_no_two_are_alike() -> None:
    orders = [order(make(50, 8, seed), epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert orders == [order(make(50, 8, seed), epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(map(tuple, orders))) == 4


def test_going_through_it_is_epoch_zero() -> None:
    batches = make(50, 8, 0)
    assert (
        [y.tolist() for _, y in batches]
        == [y.tolist() for _, y in batches]
        == [y.tolist() for _, y in batches.epoch(0)]
    )
