"""Lists as indices mean what they mean to PyTorch, and are followed as the tuples that they stand for."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur
from nets import Parts
from secateur.trace.indexing import index_items

INDICES: dict[str, Any] = {
    "slices": [slice(None), slice(0, 12)],
    "none": [None, slice(None), slice(0, 12)],
    "dots": [..., slice(0, 12)],
    "slice and list": [slice(None), [*range(12)]],
    "slice and number": [slice(None), 3],
    "lists": [[0, 1], [2, 3]],
    "tensors": [torch.tensor([0, 1]), torch.tensor([2, 3])],
    "list in a tuple": ([0, 1], slice(None)),
    "numbers": [1, 0, 1],
    "masks": [True, False],
    "long": [0, 1] * 20,
}


@pytest.mark.parametrize("name", INDICES)
def test_items_index_what_the_list_does(name: str) -> None:
    x = torch.arange(32).view(2, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch wants a tuple
        assert torch.equal(x[INDICES[name]], x[index_items(INDICES[name])])


@pytest.mark.parametrize("name", ["slices", "none", "dots", "slice and list"])
def test_a_list_is_followed_as_a_tuple_is(name: str) -> None:
    def by_list(self: Any, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x))[INDICES[name]])

    def by_tuple(self: Any, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x))[tuple(INDICES[name])])

    plans = []
    for run in (by_list, by_tuple):
        torch.manual_seed(0)
        model = Parts(run, a=nn.Linear(8, 16), b=nn.Linear(12, 3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = secateur.trace(model, torch.randn(2, 8))
        plans.append({axis.name: axis.size for axis in graph.axes})
    assert plans[0] == plans[1]
