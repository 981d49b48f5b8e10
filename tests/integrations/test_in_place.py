"""When the stages of a callback come."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from secateur.integrations.in_place import InPlace, Pace
from secateur.train.schedules import cubic, hold


def held(end: float, steps: int) -> Any:
    return hold(cubic(end, steps - 1), 1)


@pytest.mark.parametrize(("schedule", "stages"), [("linear", {10: 1, 20: 2, 30: 3}), ("one_shot", {30: 3})])
@pytest.mark.parametrize("step", [1, 2])
def test_stages_come_when_they_are_due(schedule: Any, stages: dict[int, int], step: int) -> None:
    assert came(schedule, step) == stages


def test_a_schedule_that_waits_is_waited_for() -> None:
    assert came(held, 1) == {20: 2, 30: 3}


def came(schedule: Any, step: int) -> dict[int, int]:
    """The stages by the count after which they came, where counts go up by `step`."""
    net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2))
    pruning = InPlace("macs=0.3", torch.zeros(1, 20), Pace(3, 10), {"schedule": schedule})
    pruning.begin(net, lambda: None)
    found = {count: pruning.after(net, "steps", count, ()) for count in range(0, 40, step)}
    return {count: stage.number for count, stage in found.items() if stage is not None}
