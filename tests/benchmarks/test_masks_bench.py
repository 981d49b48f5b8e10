"""The benchmark of masks, small: what it measures, and that its checks can fail."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from secateur.anatomy.masked import worn
from secateur.errors import InputError
from secateur.masks import mask

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, with random weights and images, and few steps."""
    spec = importlib.util.spec_from_file_location("bench_masks", FOLDER / "masks.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def nowhere(*_: object, **__: object) -> Any:
        raise InputError("not here")

    monkeypatch.setattr(script, "find", nowhere)
    monkeypatch.setattr(script, "load_data", nowhere)
    for name, value in {"STEPS": 4, "BATCH": 2, "PAIRS": 1}.items():
        monkeypatch.setattr(script, name, value)
    return script


def test_zeros_are_counted_step_by_step(bench: Any) -> None:
    name = next(iter(bench.OPTIMIZERS))
    figures = bench._zeros(bench.OPTIMIZERS[name])
    assert figures["not_zero_in_any_step"] == 0
    assert figures["weights"] == "random weights"
    assert figures["data"] == "random images"


def test_a_weight_that_is_not_zero_is_counted(bench: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    masks = mask(model, 0.5)
    assert bench.not_zero(model, masks) == 0
    kept = masks.masks
    worn(model)["0.weight"].mask.mask.fill_(1)
    assert sum(int((model[0].weight[~k] != 0).sum()) for k in kept.values()) == 8


def test_a_cut_from_masks_is_exact(bench: Any) -> None:
    figures = bench._cut(0.5, bench.by_input)
    assert figures["error"] < 1e-9
    assert figures["units_cut"] > 0
    assert figures["params"]["after"] < figures["params"]["before"]


def test_every_weight_counts_as_its_input_channel(bench: Any) -> None:
    weight = torch.arange(6.0).view(2, 3)
    assert torch.equal(bench.by_input("fc", weight)[0], weight.norm(dim=0))
