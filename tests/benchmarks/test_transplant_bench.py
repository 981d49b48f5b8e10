"""The benchmark of the transplant: its table, the optimizers that it goes over, and batches that are the same twice."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

transplant = pytest.importorskip("transplant", exc_type=ImportError, reason="needs benchmarks/requirements.txt")
from accuracy import cifar  # noqa: E402


def test_every_optimizer_of_torch_is_measured_or_excused() -> None:
    classes = {name for name, kind in vars(torch.optim).items() if isinstance(kind, type)} - {"Optimizer"}
    assert classes == (classes & {*transplant.optimizers()}) | transplant.WHOLE
    assert all(make([torch.nn.Parameter(torch.ones(2))]).param_groups for make in transplant.optimizers().values())


def test_the_table_has_means_over_seeds() -> None:
    def run(seed: int, loss: float) -> dict[str, object]:
        points = [[0, None, 0.1], [10, loss, 0.5], [20, loss / 2, 0.75]]
        return {"optimizer": "adam", "share": 0.5, "seed": seed, "carried": points, "fresh": points}

    header, _, carried, fresh = transplant.shown([run(0, 1.0), run(1, 2.0)]).splitlines()
    assert header.count("step") == 2
    assert [cell.strip() for cell in carried.split("|")[1:-1]] == [
        "adam, macs=0.5, carried",
        "2",
        "1.5000 / 50.00%",
        "0.7500 / 75.00%",
    ]
    assert fresh.strip("| ").startswith("adam, macs=0.5, fresh")


def test_the_table_of_loops_has_means_over_seeds_and_the_gain_of_each() -> None:
    def run(seed: int, gain: float) -> dict[str, object]:
        ways = {
            way: {"losses": [1.0, 2.0 - more], "tail": [[0, 2.0, 0.5 + more], [30, 1.0, 0.75]]}
            for way, more in (("carried", gain), ("fresh", 0.0))
        }
        return {"optimizer": "adam", "cuts": 2, "every": 5, "seed": seed, **ways}

    header, _, carried, fresh = transplant.told([run(0, 0.01), run(1, 0.03)]).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (header, carried, fresh)]
    assert cells[0][2:5] == ["loss between cuts", "top-1 at +0", "top-1 at +30"]
    assert cells[1][:5] == ["adam: 2 cuts, 5 steps, carried", "2", "1.4900", "52.00%", "75.00%"]
    assert cells[1][5:] == ["+0.005, +0.015", "+1.0%, +3.0%"]
    assert cells[2] == ["adam: 2 cuts, 5 steps, fresh", "2", "1.5000", "50.00%", "75.00%", "", ""]


def test_batches_of_a_seed_are_the_same_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.randint(256, (300, 3, 32, 32), dtype=torch.uint8)
    split = cifar.Split(pixels, torch.arange(300) % 10)
    monkeypatch.setattr(transplant, "cifar", SimpleNamespace(splits=lambda: (split, split)))
    (x, y), (again, labels), (other, _) = (transplant.Batches(seed)(3) for seed in (0, 0, 1))
    assert torch.equal(x, again)
    assert torch.equal(y, labels)
    assert not torch.equal(x, other)
