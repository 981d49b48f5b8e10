"""One training as a value: what is trained, on what, and how."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from secateur.data.batches import Source, length_of
from secateur.errors import InputError
from secateur.train import identity
from secateur.train.accelerating import accelerator
from secateur.train.checkpoint import Saved
from secateur.train.distill import Distillation
from secateur.train.history import History, Watch
from secateur.train.losses import cross_entropy
from secateur.train.options import Loss, TrainOptions
from secateur.train.randomness import Dice
from secateur.train.running import device_of, mode, seeded
from secateur.train.stepping import Penalty, Stepper
from secateur.train.underway import Keeper, Position, UnderWay


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be trained, on what, and how. Raises `InputError` where there is nothing to do."""

    model: nn.Module
    batches: Source
    epochs: int
    options: TrainOptions
    penalties: tuple[Penalty, ...] = ()
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
        """How many steps of the optimizer this is, by the length of the data."""
        return self.epochs * -(-len(self.batches) // self.options.gradients.accumulate)

    def dice(self) -> Dice:
        """What batches and loss draw with."""
        return Dice.of([self.batches, _loss_of(self.options)])

    def identity(self) -> dict[str, str]:
        """What tells this training from others, before it begins."""
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
        """What a log says of this training."""
        plain = {k: v for k, v in asdict(self.options).items() if isinstance(v, (bool, int, float, str))}
        return {**plain, **asdict(self.options.gradients), "epochs": self.epochs, "steps": self.steps}

    def run(self, watch: Watch, keeper: Keeper | None = None, saved: Saved | None = None) -> History:
        """Do it, or what is left of it after a checkpoint."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(mode(self.model, training=True))
            stack.enter_context(seeded(self.options.seed))
            optimizer = self.optimizer or self.options.make_optimizer(self.model)
            stack.callback(self.model.zero_grad, set_to_none=True)
            self.model.zero_grad(set_to_none=True)
            stack.enter_context(_own_rates(optimizer))
            stepper = self._stepper(stack, optimizer)
            under_way = UnderWay(self, optimizer, stepper, self.dice(), Position(), watch, keeper)
            if saved is not None:
                under_way.go_on_from(saved)
            return under_way.finished()

    def _stepper(self, stack: contextlib.ExitStack, optimizer: torch.optim.Optimizer) -> Stepper:
        lessons = stack.enter_context(self.teaching.lessons(self.model)) if self.teaching is not None else None
        fast = stack.enter_context(accelerator(device_of(self.model), self.options.mixed_precision))
        # The wrapper knows the scale of the loss. Where there is none, it would look for a package in every step.
        wrapped = optimizer if fast.scaler is None else fast.prepare_optimizer(optimizer, device_placement=False)
        clip = self.options.gradients.clip
        return Stepper(fast, self.model, wrapped, _loss_of(self.options), clip, self.penalties, lessons)


def _check_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    kind, own = type(optimizer).__name__, {id(parameter) for parameter in model.parameters()}
    if not any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
        raise InputError(
            f"{kind} holds no parameter of this {type(model).__name__}, so nothing would be trained\n"
            "make it of model.parameters(); after a cut, secateur.transplant(optimizer, model, small) lets it follow"
        )
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise InputError(f"{kind} takes several looks at the loss in a step, and fit gives it one; give another")


@contextlib.contextmanager
def _own_rates(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Each group falls from its own rate; afterwards it has that again, for whoever trains on with the optimizer."""
    ours = [i for i, group in enumerate(optimizer.param_groups) if "initial_lr" not in group]
    for i in ours:
        optimizer.param_groups[i]["initial_lr"] = optimizer.param_groups[i]["lr"]
    try:
        yield
    finally:
        for i in ours:  # by place: what a checkpoint puts back are new groups
            group = optimizer.param_groups[i]
            group["lr"] = group.pop("initial_lr", group["lr"])


def _loss_of(options: TrainOptions) -> Loss:
    return options.own_loss or partial(cross_entropy, label_smoothing=options.label_smoothing)


__all__ = ["Job"]
