from __future__ import annotations

from typing import Any

import pytest
import torch

from secateur.data.labels import check_labels
from secateur.errors import InputError

PASS: dict[str, tuple[Any, Any]] = {
    "within": (torch.zeros(3, 2), torch.tensor([0, 1, 1])),
    "places": (torch.zeros(2, 3, 4, 4), torch.full((2, 4, 4), 2)),
    "ignored": (torch.zeros(2, 3), torch.tensor([-100, 2])),
    "probabilities": (torch.zeros(2, 3), torch.ones(2, 3)),
    "none": (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)),
    "one score": (torch.zeros(4), torch.tensor([7, 7, 7, 7])),
    "no tensor": ({"logits": torch.zeros(2, 3)}, torch.tensor([9, 9])),
}


@pytest.mark.parametrize("kind", PASS)
def test_what_passes(kind: str) -> None:
    assert check_labels(*PASS[kind]) is None


FAIL = {
    "large": ([0, 12], r"label 12 is outside of the head: the model gives 10 scores, for the classes 0 to 9"),
    "from 1": ([1, 10], r"label 10 .*\ngive the model a head of at least 11 classes, or mend the labels of the data"),
    "negative": ([-1, 3], r"label -1 is outside of the head: .*\nmend the labels of the data"),
    "several": ([11, 99], r"label 11 .*\ngive the model a head of at least 100 classes"),
}


@pytest.mark.parametrize("kind", FAIL)
def test_what_fails(kind: str) -> None:
    labels, message = FAIL[kind]
    with pytest.raises(InputError, match=message):
        check_labels(torch.zeros(2, 10), torch.tensor(labels))
