"""A criterion of another package: one small class, and one row in the table of criteria."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import secateur
from commands import HALF, SHAPE, Command
from secateur.errors import InputError
from secateur.importance import CRITERIA, AxisSlices
from secateur.testing import check_criterion

X = torch.zeros(1, 4)


@dataclass(frozen=True)
class Cubes:
    """sum_j |w_ij|^3 over the output slices w: (units, j) of unit i."""

    needs = frozenset[str]()
    norm = "mean"

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return axis.power_sum("output", 3)


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    CRITERIA["toy"] = lambda seed: Cubes()
    yield
    del CRITERIA["toy"]


def test_the_laws_hold() -> None:
    check_criterion("toy")


@pytest.mark.parametrize("name", ["toy", "toy/max"])
def test_prune_takes_its_name(name: str) -> None:
    net = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        net[0].weight.copy_(
            torch.tensor([[1.0, -1, 2, -2]]) * torch.tensor([8.0, -7, 6, -5, 4, -3, 2, -1]).unsqueeze(1)
        )
    found = secateur.prune(net, X, "channels=0.5", importance=name, verify=True)
    assert found.plan.axes["0"].kept == (0, 1, 2, 3)
    assert found.plan.notes["importance"] == name


def test_the_command_line_takes_its_name(command: Command) -> None:
    out = command.folder / "small"
    command("prune", command.net, *SHAPE, *HALF, "--importance", "toy", "--verify", "--out", out)
    assert command.json("plan", command.net, *SHAPE, *HALF, "--importance", "toy")["notes"]["importance"] == "toy"


def test_a_command_that_imports_the_package_first_has_it(command: Command) -> None:
    (command.folder / "package.py").write_text(
        "from secateur.importance import CRITERIA\n"
        "CRITERIA['cubes'] = lambda seed: lambda axis: axis.power_sum('output', 3)\n"
    )
    program = [sys.executable, "-c", "import package; from secateur.cli import main; main()"]
    words = [*program, "plan", command.net, *SHAPE, *HALF, "--importance", "cubes", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=command.folder)
    assert json.loads(done.stdout)["notes"]["importance"] == "cubes"


def test_it_is_listed(command: Command) -> None:
    assert "random, toy." in " ".join(command("plan", "--help").replace("│", " ").split())
    assert "did you mean 'toy'" in command.fails("plan", command.net, *SHAPE, *HALF, "--importance", "tooy")
    with pytest.raises(InputError, match=r"no importance is named 'other'.*\nknown: .*, random, toy$"):
        secateur.prune(nn.Linear(4, 2), X, "channels=0.5", importance="other")


def test_a_second_one_of_its_name_raises() -> None:
    with pytest.raises(ValueError, match="two criteria named toy"):
        CRITERIA["toy"] = lambda seed: Cubes()
