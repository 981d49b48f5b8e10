"""What a training reports: after every step, and at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress after one optimizer step.

    Attributes:
        step: The number of the step, from 1.
        steps: The number of steps of the training (in `prune_and_fit`: of the stage).
        epoch: The number of the epoch, from 1.
        loss: The mean loss of the batches of the step.
        lr: The learning rate of the first parameter group.
        stage: The number of the stage, from 1.
        stages: The number of stages.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    lr: float
    stage: int = 1
    stages: int = 1


Watch: TypeAlias = Callable[[Progress], None]
"""Called after every step."""


@dataclass(frozen=True, slots=True)
class History:
    """The result of a training.

    Attributes:
        losses: The mean training loss of each epoch.
        steps: The number of optimizer steps.
        seconds: The wall time in seconds.
    """

    losses: tuple[float, ...]
    steps: int
    seconds: float


__all__ = ["History", "Progress", "Watch"]
