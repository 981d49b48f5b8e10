from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.errors import InputError
from secateur.train import accuracy, evaluate


class InDict(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": x}


def test_batches_weigh_by_their_size() -> None:
    right, wrong = torch.tensor([0, 1]), torch.tensor([1])
    assert evaluate(nn.Identity(), [(torch.eye(2), right), (torch.eye(2)[:1], wrong)]) == pytest.approx(2 / 3)


def test_accuracy_of_pixels() -> None:
    scores = torch.zeros(1, 3, 2, 2)
    scores[:, 1] = 1
    assert accuracy(scores, torch.tensor([[[1, 1], [1, 0]]])) == 0.75


def test_evaluation_mode_without_gradients_and_modes_restored() -> None:
    model = nn.Sequential(nn.Dropout(0.9), nn.Linear(2, 2))
    model[0].eval()
    seen: list[tuple[bool, bool]] = []
    model.register_forward_hook(lambda module, *_: seen.append((module.training, torch.is_grad_enabled())))
    evaluate(model, [(torch.eye(2), torch.tensor([0, 1]))])
    assert seen == [(False, False)]
    assert (model.training, model[0].training) == (True, False)


def test_a_metric_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def error(output, targets): return (output - targets).abs().mean()")
    batches = [(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]))]
    assert evaluate(nn.Identity(), batches, f"{tmp_path}/mine.py:error") == 1.0


def test_no_batches() -> None:
    with pytest.raises(InputError, match="there is nothing to evaluate on: 0 batches"):
        evaluate(nn.Identity(), [])


def test_accuracy_needs_scores() -> None:
    with pytest.raises(InputError, match="the model returned dict, not a tensor of scores\ngive your own metric"):
        evaluate(InDict(), [(torch.eye(2), torch.tensor([0, 1]))])
