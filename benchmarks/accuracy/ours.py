"""Our side: named sets of options for `secateur.prune`. To measure another one, add it to `CONFIGS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

import secateur

from .task import Task


@dataclass(frozen=True, slots=True)
class Ours:
    """options: passed on to `secateur.prune`. data: whether it is given the calibration batches and the loss.

    only: the tasks that it is measured on, all where empty.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    data: bool = False
    only: tuple[str, ...] = ()


CONFIGS: tuple[Ours, ...] = (
    Ours("l1", {"importance": "l1"}),
    Ours("l2", {"importance": "l2"}),
    Ours("l2 axis", {"importance": "l2", "scope": "axis"}),
    Ours("bn scale", {"importance": "bn_scale"}, only=("resnet20", "resnet56", "lite0")),
    Ours("random", {"importance": "random"}),
)


def configs(task: str, names: str = "") -> list[Ours]:
    """Those of a task; `names`: of these names only, comma-separated."""
    wanted = names.split(",") if names else [config.name for config in CONFIGS]
    return [c for c in CONFIGS if c.name in wanted and (not c.only or task in c.only)]


def pruned(task: Task, config: Ours, share: float) -> nn.Module:
    """What `secateur.prune` makes of the dense model at the task's target for `share`."""
    given = {"data": task.batches, "loss": task.loss} if config.data else {}
    arguments: dict[str, Any] = {"seed": task.seed, **task.wanted(share), **given, **config.options}
    return secateur.prune(task.model, task.example, **arguments).model.eval()
