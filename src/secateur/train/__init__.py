"""Training: the plain fine-tuning loop and the evaluation that goes with it."""

from secateur.train.evaluate import accuracy, evaluate
from secateur.train.fit import History, Progress, TrainOptions, cross_entropy, fit

__all__ = ["History", "Progress", "TrainOptions", "accuracy", "cross_entropy", "evaluate", "fit"]
