"""Training: the plain fine-tuning loop, the loop that cuts and trains, and the evaluation that goes with both."""

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
"""They stand on all that cuts, which stands on parts of this package."""

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
