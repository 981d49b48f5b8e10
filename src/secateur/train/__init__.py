"""Training: the plain fine-tuning loop and the evaluation that goes with it."""

from secateur.train.checkpoint import Checkpointing
from secateur.train.distill import Distillation
from secateur.train.evaluate import accuracy, evaluate
from secateur.train.fit import fit
from secateur.train.losses import cross_entropy
from secateur.train.options import Gradients, TrainOptions
from secateur.train.training import History, Progress

__all__ = [
    "Checkpointing",
    "Distillation",
    "Gradients",
    "History",
    "Progress",
    "TrainOptions",
    "accuracy",
    "cross_entropy",
    "evaluate",
    "fit",
]
