"""Training: fine-tuning (`fit`), pruning and training in stages (`prune_and_fit`), and evaluation.

This package may import everything except `secateur.cli`, `secateur.recipes` and `secateur.integrations`. A new schedule
is a row in `schedules.SCHEDULES`, a new penalty a subclass of `penalties.Penalty`, a new log a row in `logs.KINDS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from secateur.train.checkpoint import Checkpointing
from secateur.train.distill import Distillation
from secateur.train.evaluate import accuracy, evaluate
from secateur.train.fit import fit
from secateur.train.history import History, Progress
from secateur.train.losses import cross_entropy
from secateur.train.options import Gradients, TrainOptions

if TYPE_CHECKING:
    from secateur.train.driver import prune_and_fit
    from secateur.train.outcome import Fitted

LATER = ("Fitted", "prune_and_fit")
"""Imported on first use: their module imports the stages that cut, which import parts of this package."""

__all__ = [
    "Checkpointing",
    "Distillation",
    "Fitted",
    "Gradients",
    "History",
    "Progress",
    "TrainOptions",
    "accuracy",
    "cross_entropy",
    "evaluate",
    "fit",
    "prune_and_fit",
]


def __getattr__(name: str) -> Any:
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from secateur.train import driver

    return getattr(driver, name)
