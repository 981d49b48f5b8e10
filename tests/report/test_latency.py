from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from secateur.report import latency
from secateur.report.latency import medians


class Sleeper(nn.Module):
    def __init__(self, seconds: float, calls: list[float]) -> None:
        super().__init__()
        self.seconds, self.calls = seconds, calls

    def forward(self, x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.calls.append(self.seconds)
        time.sleep(self.seconds)
        return x


def test_models_take_turns_and_are_told_apart() -> None:
    calls: list[float] = []
    slow, fast = medians([Sleeper(0.02, calls), Sleeper(0.001, calls)], [torch.zeros(1)], repeats=6)
    assert calls == [0.02, 0.001] * (latency.WARM_UP + 6)
    assert 20 <= slow < 200
    assert fast < slow


def test_slow_models_are_called_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "SECONDS", 0.0)
    calls: list[float] = []
    medians([Sleeper(0.0, calls)], [torch.zeros(1)])
    assert len(calls) == latency.WARM_UP + latency.LEAST
