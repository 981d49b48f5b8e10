from __future__ import annotations

from pathlib import Path

import pytest
import torch

from secateur.models import build_model

FILE = Path(__file__).parents[2] / "examples" / "mnist_net.py"


@pytest.mark.parametrize("classes", [10, 3])
def test_scores(classes: int) -> None:
    model = build_model(f"{FILE}:build", {"num_classes": classes})
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, classes)


def test_size() -> None:
    assert sum(parameter.numel() for parameter in build_model(f"{FILE}:build").parameters()) == 173_842
