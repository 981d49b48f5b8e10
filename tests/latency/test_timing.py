from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from secateur.latency import timing as latency
from secateur.latency.timing import Timing, timings


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
    slow, fast = timings([Sleeper(0.02, calls), Sleeper(0.001, calls)], [torch.zeros(1)], repeats=6)
    assert calls == [0.02, 0.001] * (latency.WARM_UP + 6)
    assert 20 <= slow.fastest <= slow.median <= slow.slow
    assert fast.median < slow.median


def test_slow_models_are_called_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "SECONDS", 0.0)
    calls: list[float] = []
    timings([Sleeper(0.0, calls)], [torch.zeros(1)])
    assert len(calls) == latency.WARM_UP + latency.LEAST


def test_calls_that_are_far_apart_are_unsteady() -> None:
    assert Timing.of([1.0] * 9 + [24.0]).steady
    assert not Timing.of([1.0, 24.0] * 5).steady
    assert not Timing.of([1.0] + [24.0] * 9).steady
