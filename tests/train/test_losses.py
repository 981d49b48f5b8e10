from __future__ import annotations

import pytest
import torch
from torch import Tensor

from secateur.errors import InputError
from secateur.train import cross_entropy


@pytest.mark.parametrize(
    ("targets", "wrong"),
    [(torch.tensor([0, 3]), 3), (torch.tensor([-1, 0]), -1), (torch.tensor([[0], [7]], dtype=torch.uint8), 7)],
)
def test_a_label_that_the_head_does_not_have(targets: Tensor, wrong: int) -> None:
    scores = torch.zeros(2, 3, *targets.shape[1:])
    with pytest.raises(InputError) as caught:
        cross_entropy(scores, targets)
    assert f"label {wrong} is outside the head: the model scores 3 classes, 0 to 2" in str(caught.value)
    assert "give the model as many classes as the data have" in str(caught.value)


@pytest.mark.parametrize(
    "targets", [torch.tensor([0, 2]), torch.tensor([-100, 1]), torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])]
)
def test_labels_that_are_right(targets: Tensor) -> None:
    scores = torch.randn(2, 3)
    assert torch.equal(cross_entropy(scores, targets), torch.nn.functional.cross_entropy(scores, targets))
