"""What is told of a training: after every step, and when it is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known after a step: its number of `steps` (from 1), its epoch (from 1), its loss and its rate.

    In a loop that cuts and trains, all that is of one `stage` of `stages`.
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
    """What happened: the mean training loss of each epoch, the number of steps, and the wall time in seconds."""

    losses: tuple[float, ...]
    steps: int
    seconds: float


__all__ = ["History", "Progress", "Watch"]
