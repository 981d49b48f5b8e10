"""A training that is running: its position, its state for checkpoints, and how it resumes from one."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from secateur.errors import InputError, PruningError
from secateur.train.checkpoint import Checkpoints, Saved
from secateur.train.epochs import epoch_from
from secateur.train.history import History, Progress, Watch
from secateur.train.randomness import Dice
from secateur.train.stepping import Stepper
from secateur.train.training import Job


@dataclass(frozen=True, slots=True)
class Keeper:
    """Writes checkpoints.

    Attributes:
        store: The checkpoints of the run.
        flush: Writes the log to disk, so that it is at least as new as the checkpoint.
        before: The number of steps of earlier stages.
        more: Further state to store.
    """

    store: Checkpoints
    flush: Callable[[], None]
    before: int = 0
    more: Mapping[str, Any] = field(default_factory=dict)

    def after(self, step: int, model: nn.Module, state: Callable[[], dict[str, Any]]) -> None:
        """Write a checkpoint after a step, if one is due."""
        if self.store.due(self.before + step):
            self.flush()
            self.store.write(self.before + step, model, {**state(), **self.more})


@dataclass(slots=True)
class Position:
    """The position of a training: `batch` of `epoch` is the next, `total` is the sum of this epoch's losses so far."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    total: float = 0.0
    losses: tuple[float, ...] = ()
    seconds: float = 0.0


@dataclass(slots=True)
class UnderWay:
    """A training that is running, with all that its next step needs."""

    job: Job
    optimizer: torch.optim.Optimizer
    stepper: Stepper
    dice: Dice
    at: Position
    watch: Watch
    keeper: Keeper | None
    began: dict[str, Any] = field(default_factory=dict)
    """The random state at the start of the epoch: the order of the batches was drawn from it."""

    def finished(self) -> History:
        """Train until the last epoch is done."""
        started = time.perf_counter() - self.at.seconds
        while self.at.epoch < self.job.epochs:
            for group in self._groups():
                self._step(group)
                self.at.seconds = time.perf_counter() - started
                if self.keeper is not None:
                    self.keeper.after(self.at.step, self.job.model, self.state)
            self._end_epoch()
        return History(self.at.losses, self.at.step, time.perf_counter() - started)

    def _groups(self) -> Iterator[list[Any]]:
        """Iterate over the remaining batches of this epoch, in groups that make one step."""
        source, number = self.job.batches, self.at.epoch
        self.dice.start_anew()
        if self.at.batch:  # resumes within an epoch: the loader draws the same order again, and skips
            now = self.dice.state()
            self.dice.put(self.began)
            batches = epoch_from(source, number, self.at.batch)
            self.dice.put(now)
        else:
            self.began = self.dice.state()
            batches = epoch_from(source, number, 0)
        size = self.job.options.gradients.accumulate
        return iter(lambda: list(itertools.islice(batches, size)), [])

    def _step(self, group: list[Any]) -> None:
        done, epoch, steps = self.at.step, self.at.epoch, self.job.steps
        where = f"step {done + 1} of {steps} (epoch {epoch + 1})"
        check = partial(_check_finite, where, max(float(rates["initial_lr"]) for rates in self.optimizer.param_groups))
        losses = self.stepper.step(group, self.job.options.factor(done, steps), check)
        self.at.step += 1
        self.at.batch += len(group)
        self.at.total += sum(losses)
        rate = self.optimizer.param_groups[0]["lr"]
        self.watch(Progress(done + 1, steps, epoch + 1, sum(losses) / len(losses), rate))

    def _end_epoch(self) -> None:
        at = self.at
        if not at.batch:
            raise InputError(
                f"epoch {at.epoch + 1} has no batches; give a list or a DataLoader, not an iterator that is used up"
            )
        at.losses = (*at.losses, at.total / at.batch)
        at.epoch, at.batch, at.total = at.epoch + 1, 0, 0.0

    def state(self) -> dict[str, Any]:
        """Return everything except the model that the rest of the training depends on."""
        scaler = self.stepper.accelerator.scaler
        return {
            "position": asdict(self.at),
            "random": self.dice.state(),
            "began": self.began,
            "optimizer": self.optimizer.state_dict(),
            "order": list(self._order()),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "penalties": [_state_of(penalty) for penalty in self.job.penalties],
        }

    def _order(self) -> Iterator[list[str]]:
        """Yield the names of each group's parameters: those that recovery added come last, unlike in the model."""
        names = {id(parameter): name for name, parameter in self.job.model.named_parameters()}
        for group in self.optimizer.param_groups:
            if any(id(parameter) not in names for parameter in group["params"]):
                raise InputError(
                    f"{type(self.optimizer).__name__} holds a parameter that {type(self.job.model).__name__} does not "
                    "have, so no checkpoint can name it; give an optimizer of this model alone"
                )
            yield [names[id(parameter)] for parameter in group["params"]]

    def go_on_from(self, saved: Saved) -> None:
        """Restore the state of a checkpoint."""
        state = saved.state
        saved.put_weights(self.job.model)
        parameters = dict(self.job.model.named_parameters())
        for group, names in zip(self.optimizer.param_groups, state["order"], strict=True):
            group["params"][:] = [parameters[name] for name in names]
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"] and self.stepper.accelerator.scaler is not None:
            self.stepper.accelerator.scaler.load_state_dict(state["scaler"])
        for penalty, was in zip(self.job.penalties, state["penalties"], strict=True):
            if was is not None:
                penalty.load_state_dict(was)  # type: ignore[attr-defined]
        self.at, self.began = Position(**state["position"]), state["began"]
        self.dice.put(state["random"])


def _state_of(penalty: Any) -> Any:
    """Return the state of a penalty, if it has any."""
    return penalty.state_dict() if hasattr(penalty, "state_dict") else None


def _check_finite(where: str, lr: float, loss: float) -> None:
    if not math.isfinite(loss):
        raise PruningError(
            f"the loss is {loss} at {where}\n"
            f"cause: usually a learning rate that is too high, now lr={lr:g}; or inputs that are not finite\n"
            f"fix:   TrainOptions(lr={lr / 10:g}), and check the data"
        )


__all__ = ["Keeper", "Position", "UnderWay"]
