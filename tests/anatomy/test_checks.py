from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from secateur.anatomy.checks import check_model
from secateur.errors import InputError


class DistributedDataParallel(nn.Module):
    """Called like torch's own, which needs a process group."""


def build() -> nn.Module:
    return nn.Linear(2, 2)


REFUSED: dict[str, tuple[Any, str]] = {
    "class": (nn.Identity, r"model is the class Identity, not a torch.nn.Module; call it first: Identity\(\)"),
    "state dict": (build().state_dict(), "a state dict holds weights alone"),
    "function": (build, r"call it first, as in build\(\)"),
    "lambda": (lambda: build(), r"call it first, as in build\(\)"),
    "tensor": (torch.ones(2), "the model comes first, then what it is called with"),
    "wrapped": (DistributedDataParallel(), "wrapped in DistributedDataParallel; prune model.module"),
    "compiled": (torch.compile(build()), "the model is compiled; prune model._orig_mod"),
    "lazy": (nn.Sequential(nn.LazyLinear(2)), "0.weight is not initialised yet; run the model once"),
    "devices": (
        nn.Sequential(build(), nn.Linear(2, 2, device="meta")),
        "several devices: 0.weight on cpu, 1.weight on meta\nmove it to one",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_pruned_is_refused_with_a_remedy(name: str) -> None:
    model, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        check_model(model)


def test_quantised_tensors_are_refused() -> None:
    model = build()
    model.register_buffer("table", torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8))
    with pytest.raises(InputError, match=r"table is quantised \(torch.qint8\); prune the float model"):
        check_model(model)


@pytest.mark.parametrize("model", [build(), nn.Sequential(), nn.BatchNorm1d(2), nn.Linear(2, 2, device="meta")])
def test_plain_models_pass(model: nn.Module) -> None:
    check_model(model)
