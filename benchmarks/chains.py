"""Chains of n tiny residual blocks, to test that the time per block does not grow with the depth."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

WIDTH = 8
LENGTHS = (50, 500, 5000)


class LinearBlock(nn.Module):
    """x + fc2(relu(fc1(norm(x)))), over (batch, WIDTH)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.fc1 = nn.Linear(WIDTH, 2 * WIDTH)
        self.fc2 = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.fc2(torch.relu(self.fc1(self.norm(x))))


class ConvBlock(nn.Module):
    """relu(x + bn2(conv2(relu(bn1(conv1(x)))))), over (batch, WIDTH, 4, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        self.conv2 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


def linear_chain(length: int) -> tuple[nn.Module, torch.Tensor]:
    """Return `length` linear blocks between a stem and a head, and an input."""
    blocks = [LinearBlock() for _ in range(length)]
    return nn.Sequential(nn.Linear(4, WIDTH), *blocks, nn.Linear(WIDTH, 3)), torch.randn(2, 4)


def conv_chain(length: int) -> tuple[nn.Module, torch.Tensor]:
    """Return `length` convolutional blocks between a stem and a head, and an input."""
    blocks = [ConvBlock() for _ in range(length)]
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3, padding=1), *blocks, nn.Conv2d(WIDTH, 3, 1)), torch.randn(2, 3, 4, 4)


CHAINS: dict[str, Callable[[int], tuple[nn.Module, torch.Tensor]]] = {"linear": linear_chain, "conv": conv_chain}


@dataclass(frozen=True, slots=True)
class Stages:
    """Seconds of each stage on one chain."""

    length: int
    trace: float
    plan: float
    cut: float

    @property
    def per_block(self) -> float:
        """Milliseconds per block, all stages together."""
        return (self.trace + self.plan + self.cut) / self.length * 1000


def measure(kind: str, length: int) -> Stages:
    """Time trace, plan and `cut_` on a fresh chain; the best of three if a run is short."""
    runs = [_once(kind, length) for _ in range(3 if length <= 500 else 1)]
    return min(runs, key=lambda stages: stages.per_block)


def _once(kind: str, length: int) -> Stages:
    import secateur

    torch.manual_seed(0)
    model, x = CHAINS[kind](length)
    model.eval()
    clock = [time.perf_counter()]
    graph = secateur.trace(model, (x,))
    clock.append(time.perf_counter())
    plan = secateur.plan(graph, "channels=0.7", importance="l2")
    clock.append(time.perf_counter())
    secateur.cut_(model, plan)
    clock.append(time.perf_counter())
    return Stages(length, *(after - before for before, after in pairwise(clock)))
