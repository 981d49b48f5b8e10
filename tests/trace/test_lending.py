"""Tensors of a model that were written or assigned to are as they were afterwards, whatever they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.trace.lending import Lent


class Model(nn.Module):
    def __init__(self, tensor: Tensor):
        super().__init__()
        self.tensor = tensor


class _Saving(TorchDispatchMode):
    def __init__(self, lent: Lent):
        super().__init__()
        self.lent = lent

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.lent.save(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


def _after(tensor: Tensor, write: Callable[[Tensor], object]) -> Tensor:
    """A tensor that was written or assigned to while it was lent."""
    lent = Lent.of(Model(tensor))
    with torch.no_grad(), lent.lending(), _Saving(lent):
        write(tensor)
    return tensor


def _assign(tensor: Tensor, value: Tensor) -> None:
    tensor.data = value


WRITES: dict[str, Callable[[Tensor], object]] = {
    "in place": lambda t: t.mul_(2),
    "through data": lambda t: t.data.mul_(2),
    "assigned": lambda t: _assign(t, t.data * 2),
    "assigned in another precision": lambda t: _assign(t, t.data.double()),
}
MADE: dict[str, Callable[[], Tensor]] = {
    "plain": lambda: torch.rand(4, 4),
    "with gaps": lambda: torch.rand(4, 8)[:, ::2],
    "transposed": lambda: torch.rand(4, 4).t(),
    "conjugate": lambda: torch.rand(4, 4, dtype=torch.cfloat).conj(),
    "low precision": lambda: torch.rand(4, 4).bfloat16(),
    "parameter": lambda: nn.Parameter(torch.rand(4, 4)),
    "empty": lambda: torch.zeros(0, 4),
    "sparse": lambda: torch.eye(4).to_sparse(),
    "compressed": lambda: torch.eye(4).to_sparse_csr(),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("made", MADE)
@pytest.mark.filterwarnings("ignore:Sparse")
def test_it_is_as_it_was(made: str, write: str) -> None:
    tensor = MADE[made]()
    values, looks = tensor.detach().clone().to_dense(), (tensor.shape, tensor.dtype, tensor.layout, tensor._version)
    _after(tensor, WRITES[write])
    assert (tensor.shape, tensor.dtype, tensor.layout, tensor._version) == looks
    assert torch.equal(tensor.detach().to_dense(), values)


def test_another_shape_is_undone() -> None:
    tensor = torch.ones(4)
    assert torch.equal(_after(tensor, lambda t: _assign(t, torch.zeros(7))), torch.ones(4))


def test_of_tensors_in_one_memory_only_those_written_to_are_saved() -> None:
    """A checkpoint that was mapped into memory is one storage of all its tensors."""
    one, two = torch.rand(8).split(4)
    model = nn.Module()
    model.one, model.two = one, two
    lent, before = Lent.of(model), one.clone()
    with lent.lending(), _Saving(lent):
        one.mul_(2)
        assert len(lent._saved) == 1
    assert torch.equal(one, before)


def test_what_is_only_read_by_an_op_that_writes_is_not_saved() -> None:
    model = Model(torch.rand(4))
    lent = Lent.of(model)
    with lent.lending(), _Saving(lent):
        torch.zeros(4).mul_(model.tensor)
        torch.add(model.tensor, 1, out=torch.zeros(4))
    assert not lent._saved


def test_statistics_that_a_schema_hides_are_saved() -> None:
    model: Any = nn.BatchNorm1d(4)
    lent = Lent.of(model)
    with torch.no_grad(), lent.lending(), _Saving(lent):
        model(torch.rand(5, 4))
    assert torch.equal(model.running_mean, torch.zeros(4))
    assert int(model.num_batches_tracked) == 0


def test_a_tensor_made_in_inference_mode_counts_no_writes() -> None:
    with torch.inference_mode():
        tensor = torch.ones(4)
    lent = Lent.of(Model(tensor))
    with torch.inference_mode(), lent.lending(), _Saving(lent):
        tensor.mul_(2)
    assert torch.equal(tensor, torch.ones(4))


def test_a_script_is_left_as_it_was() -> None:
    script: Any = torch.jit.trace(nn.Linear(4, 4), torch.rand(2, 4))
    weight = script.weight.detach().clone()
    lent = Lent.of(script)
    with torch.no_grad(), lent.lending(), _Saving(lent):
        script.weight.mul_(2)
    assert torch.equal(script.weight, weight)
