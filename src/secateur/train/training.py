"""`Job`: one training, with the model, the data and the options."""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from secateur.data.batches import Source, length_of
from secateur.errors import InputError
from secateur.train import identity
from secateur.train.distill import Distillation
from secateur.train.losses import cross_entropy
from secateur.train.options import Loss, TrainOptions
from secateur.train.randomness import Dice
from secateur.train.stepping import StepPenalty


@dataclass(frozen=True, slots=True)
class Job:
    """One training: the model, the data and the options. Raises `InputError` if there is nothing to do."""

    model: nn.Module
    batches: Source
    epochs: int
    options: TrainOptions
    penalties: tuple[StepPenalty, ...] = ()
    teaching: Distillation | None = None
    optimizer: torch.optim.Optimizer | None = None

    def __post_init__(self) -> None:
        if type(self.epochs) is not int or self.epochs < 1:
            raise InputError(f"epochs is {self.epochs!r}; it must be a whole number, at least 1")
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            name = type(self.model).__name__
            raise InputError(f"{name} has no parameter that requires gradients; nothing to train")
        if not length_of(self.batches):
            raise InputError("there is nothing to train on: 0 batches; check the data")
        if self.optimizer is not None:
            _check_optimizer(self.optimizer, self.model)

    @property
    def steps(self) -> int:
        """The number of optimizer steps, computed from the length of the data."""
        return self.epochs * -(-len(self.batches) // self.options.gradients.accumulate)

    def dice(self) -> Dice:
        """Return the random generators that the batches and the loss hold."""
        return Dice.of([self.batches, loss_of(self.options)])

    def identity(self) -> dict[str, str]:
        """Return strings by name that differ between different trainings."""
        return {
            "model": identity.of_model(self.model),
            **identity.of_options(self.options),
            "length": f"{self.epochs} x {len(self.batches)} batches",
            "generators": self.dice().kinds or "none",
            "penalties": identity.of_penalties(self.penalties),
            "teacher": identity.of_teacher(self.teaching),
            "optimizer of its own": identity.of_optimizer(self.optimizer) if self.optimizer is not None else "none",
        }

    def about(self) -> dict[str, Any]:
        """Return the settings that a log records."""
        plain = {k: v for k, v in asdict(self.options).items() if isinstance(v, (bool, int, float, str))}
        return {**plain, **asdict(self.options.gradients), "epochs": self.epochs, "steps": self.steps}


def _check_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    kind, own = type(optimizer).__name__, {id(parameter) for parameter in model.parameters()}
    if not any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
        raise InputError(
            f"{kind} holds no parameter of this {type(model).__name__}, so nothing would be trained\n"
            "make it from model.parameters(); after a cut, secateur.transplant(optimizer, model, small) moves it"
        )
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise InputError(
            f"{kind} evaluates the loss several times in a step, which fit does not support; give another optimizer"
        )


def loss_of(options: TrainOptions) -> Loss:
    """Return the loss of these options, a function of (output, targets)."""
    return options.own_loss or partial(cross_entropy, label_smoothing=options.label_smoothing)


__all__ = ["Job", "loss_of"]
