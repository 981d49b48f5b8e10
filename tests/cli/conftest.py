"""A folder with everything that a user would have written, and the command as they would run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from secateur.cli import app

NETS = '''
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """x: (n, 1, 8, 8) -> (n, classes)"""

    def __init__(self, width, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 16, 3, padding=1)
        self.head = nn.Linear(16, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return self.head(F.relu(self.conv2(x)).mean((2, 3)))


def build(width=12, num_classes=4):
    print("building")
    return Net(width, num_classes)


def stuck():
    return nn.Linear(4, 2)


def words():
    return nn.Sequential(nn.Embedding(7, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def data(split, batch_size):
    random = torch.Generator().manual_seed(0 if split == "train" else 1)
    for _ in range(3):
        x = torch.randn(batch_size, 1, 8, 8, generator=random)
        yield x, (x.mean((1, 2, 3)) > 0).long()


def colour(split):
    return [(torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.long))]


def nothing(split):
    return []


def many(split):
    return [(torch.zeros(2, 1, 8, 8), torch.full((2,), 99))]


def loss(output, targets):
    return output.square().mean()


def error(output, targets):
    return (output.argmax(1) != targets).float().mean()
'''

SHAPE = ("--input", "1x1x8x8")
HALF = ("--target", "macs=0.5")


class Command:
    """`secateur` within this process. Calling it checks the exit code and gives stdout; `fails` gives the message."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.net = f"{folder}/nets.py:build"

    def file(self, function: str) -> str:
        return f"{self.folder}/nets.py:{function}"

    def invoke(self, *arguments: object, env: dict[str, str] | None = None) -> Any:
        # Wide, so that usage errors are not wrapped.
        return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", **(env or {})})

    def __call__(self, *arguments: object, code: int = 0) -> str:
        result = self.invoke(*arguments)
        assert result.exit_code == code, (result.exit_code, result.output, result.exception)
        return result.stdout

    def json(self, *arguments: object, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code), parse_constant=pytest.fail)

    def fails(self, *arguments: object, code: int = 2) -> str:
        result = self.invoke(*arguments)
        assert result.exit_code == code, (result.exit_code, result.output, result.exception)
        assert "Traceback" not in result.output
        assert not result.stdout
        return result.stderr


@pytest.fixture
def secateur(tmp_path: Path) -> Command:
    (tmp_path / "nets.py").write_text(NETS)
    return Command(tmp_path)


@pytest.fixture
def dense(secateur: Command) -> Path:
    """Weights of the network, in a plain state dict."""
    import torch

    from secateur.models import build_model

    path = secateur.folder / "dense.pt"
    torch.save({"state_dict": build_model(secateur.net).state_dict()}, path)
    return path


@pytest.fixture
def small(secateur: Command, dense: Path) -> Path:
    """The folder of a pruned network."""
    out = secateur.folder / "small"
    secateur("prune", secateur.net, "--weights", dense, *SHAPE, *HALF, "--out", out)
    return out


Files = Callable[[], dict[str, bytes]]


@pytest.fixture
def files(secateur: Command) -> Files:
    """What lies in the folder."""

    def read() -> dict[str, bytes]:
        found = (p for p in secateur.folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        return {str(p): p.read_bytes() for p in found}

    return read
