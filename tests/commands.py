"""The command line as a user has it: a file with networks, data, a loss and a metric of their own, and the command."""

from __future__ import annotations

import json
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


def mute():
    net = Net(12, 4)
    nn.init.zeros_(net.head.weight)
    return net


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
