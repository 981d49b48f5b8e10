"""Optimizers, losses and rates of the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.errors import FileError, InputError
from secateur.importance import Lp
from secateur.train import Checkpointing, Gradients, TrainOptions, fit
from secateur.train.identity import of_code

CLIPPED = TrainOptions(gradients=Gradients(clip=0.1))


def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))


def head(model: nn.Sequential) -> Iterator[nn.Parameter]:
    return model[-1].parameters()


def blobs(batches: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (batches, 32), generator=generator)
    return list(zip(torch.randn(batches, 32, 2, generator=generator) + y.unsqueeze(-1), y, strict=True))


def test_an_optimizer_of_a_part_moves_and_clips_that_part_alone() -> None:
    part, whole = net(), net()
    fit(part, blobs(2), epochs=2, optimizer=torch.optim.SGD(head(part), lr=0.1), options=CLIPPED)
    for parameter in list(whole.parameters())[:-2]:
        parameter.requires_grad_(False)
    fit(whole, blobs(2), epochs=2, optimizer=torch.optim.SGD(head(whole), lr=0.1), options=CLIPPED)
    assert all(parameter.grad is None for parameter in part.parameters())
    assert all(torch.equal(a, b) for a, b in zip(part.parameters(), whole.parameters(), strict=True))


def test_an_own_optimizer_has_its_rate_again() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    fit(model, blobs(2), epochs=1, optimizer=optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert "initial_lr" not in optimizer.param_groups[0]


@pytest.mark.parametrize("other", [lambda p: torch.optim.SGD(p, lr=0.1), lambda p: torch.optim.AdamW(p, lr=0.5)])
def test_checkpoints_of_another_optimizer_are_refused(other: Any, tmp_path: Path) -> None:
    first, second = net(), net()
    kept = Checkpointing(tmp_path / "c", every=1)
    fit(first, blobs(2), epochs=1, optimizer=torch.optim.SGD(first.parameters(), lr=0.5), checkpoint=kept)
    with pytest.raises(FileError, match="optimizer"):
        fit(second, blobs(2), epochs=1, optimizer=other(second.parameters()), checkpoint=kept)


def test_what_a_loss_was_given_tells_runs_apart() -> None:
    losses = [partial(F.cross_entropy, label_smoothing=s) for s in (0.1, 0.1, 0.5)]
    one, same, other = (of_code(loss) for loss in losses)
    assert one == same != other
    assert of_code(Lp(1)) == of_code(Lp(1)) != of_code(Lp(3))
    assert of_code(Lp(1).__call__) != of_code(Lp(3).__call__)
    assert of_code(nn.CrossEntropyLoss(label_smoothing=0.1)) != of_code(nn.CrossEntropyLoss(label_smoothing=0.5))


def test_a_rate_of_numpy_is_a_number(tmp_path: Path) -> None:
    rate = np.logspace(-3, -1, 3)[1]
    fit(net(), blobs(2), epochs=1, options=TrainOptions(lr=rate), checkpoint=Checkpointing(tmp_path / "c", every=1))
    assert list((tmp_path / "c").iterdir())


def test_a_model_does_not_teach_itself() -> None:
    model = net()
    with pytest.raises(InputError, match="the teacher is the model itself"):
        fit(model, blobs(1), epochs=1, teacher=model)
