from __future__ import annotations

import pytest
import torch
from torch import Tensor

from secateur.errors import InputError
from secateur.pruning import prune
from secateur.train import TrainOptions, accuracy, cross_entropy, evaluate, fit


@pytest.mark.parametrize(
    ("targets", "wrong"),
    [(torch.tensor([0, 3]), 3), (torch.tensor([-1, 0]), -1), (torch.tensor([[0], [7]], dtype=torch.uint8), 7)],
)
def test_a_label_that_the_head_does_not_have(targets: Tensor, wrong: int) -> None:
    scores = torch.zeros(2, 3, *targets.shape[1:])
    with pytest.raises(InputError) as caught:
        cross_entropy(scores, targets)
    assert f"label {wrong} is out of range: the model scores 3 classes, 0 to 2" in str(caught.value)
    assert "give the model as many classes as the data have" in str(caught.value)


@pytest.mark.parametrize(
    "targets", [torch.tensor([0, 2]), torch.tensor([-100, 1]), torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])]
)
def test_labels_that_are_right(targets: Tensor) -> None:
    scores = torch.randn(2, 3)
    assert torch.equal(cross_entropy(scores, targets), torch.nn.functional.cross_entropy(scores, targets))


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8, torch.int64])
def test_labels_are_whole_numbers_of_any_kind(kind: torch.dtype) -> None:
    assert cross_entropy(torch.zeros(1, 2), torch.tensor([1], dtype=kind)).exp() == 2


def test_targets_that_are_neither_labels_nor_shares() -> None:
    assert cross_entropy(torch.zeros(1, 2), torch.tensor([[0.5, 0.5]])).exp() == 2
    message = r"targets \(4,\) float32 are neither labels nor shares of the scores \(4, 2\)\ngive .* targets.long\(\)"
    with pytest.raises(InputError, match=message):
        cross_entropy(torch.zeros(4, 2), torch.zeros(4))


def test_scores_are_found_in_what_transformers_return() -> None:
    transformers = pytest.importorskip("transformers", reason="needs secateur[hf]")
    config = transformers.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    model = transformers.BertForSequenceClassification(config)
    batches = [(torch.randint(9, (4, 5)), torch.tensor([0, 1, 1, 0]))] * 2
    small = prune(model, batches[0][0][:1], "channels=0.5").model
    history = fit(small, batches, epochs=3, options=TrainOptions(lr=0.1), teacher=model)
    assert history.losses[-1] < history.losses[0]
    assert evaluate(small, batches, accuracy) in (0.0, 0.25, 0.5, 0.75, 1.0)
