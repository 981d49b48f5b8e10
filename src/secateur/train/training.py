"""One training under way: where it is, what a checkpoint has to hold of it, and how it goes on from one."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import nn

from secateur.data.batches import Source
from secateur.errors import InputError, PruningError
from secateur.models.functions import load_function
from secateur.train import identity
from secateur.train.accelerating import accelerator
from secateur.train.checkpoint import Checkpoints, Saved
from secateur.train.distill import Distillation
from secateur.train.losses import cross_entropy
from secateur.train.options import Loss, TrainOptions
from secateur.train.randomness import put_random_state, random_state
from secateur.train.running import device_of, mode, seeded
from secateur.train.stepping import Penalty, Stepper


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


@dataclass(frozen=True, slots=True)
class Keeper:
    """Where checkpoints go. `before`: steps of earlier stages; `more`: what else each is to remember; `flush`: puts the
    log on the disk, so that it has what came before a checkpoint."""

    store: Checkpoints
    flush: Callable[[], None]
    before: int = 0
    more: Mapping[str, Any] = field(default_factory=dict)

    def after(self, step: int, model: nn.Module, state: Callable[[], dict[str, Any]]) -> None:
        """Write a checkpoint after a step, where one is due."""
        if self.store.due(self.before + step):
            self.flush()
            self.store.write(self.before + step, model, {**state(), **self.more})


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
        if self.epochs < 1:
            raise InputError(f"epochs is {self.epochs}; it must be at least 1")
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            name = type(self.model).__name__
            raise InputError(f"{name} has no parameter that requires gradients; nothing to train")
        if not len(self.batches):
            raise InputError("there is nothing to train on: 0 batches; check the data")

    @property
    def steps(self) -> int:
        """How many steps of the optimizer this is, by the length of the data."""
        return self.epochs * -(-len(self.batches) // self.options.gradients.accumulate)

    def identity(self) -> dict[str, str]:
        """What tells this training from others, before it begins."""
        return {
            "model": identity.of_model(self.model),
            "options": identity.of_options(self.options),
            "length": f"{self.epochs} x {len(self.batches)} batches",
            "penalties": identity.of_penalties(self.penalties),
            "teacher": identity.of_teacher(self.teaching),
            **({"optimizer": identity.of_optimizer(self.optimizer)} if self.optimizer is not None else {}),
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
            under_way = _UnderWay(self, optimizer, self._stepper(stack, optimizer), _Position(), watch, keeper)
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


@dataclass(slots=True)
class _Position:
    """How far a training has come: `batch` of `epoch` is the next, `total` the sum of this epoch's losses so far."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    total: float = 0.0
    losses: tuple[float, ...] = ()
    seconds: float = 0.0


@dataclass(slots=True)
class _UnderWay:
    job: Job
    optimizer: torch.optim.Optimizer
    stepper: Stepper
    at: _Position
    watch: Watch
    keeper: Keeper | None
    began: dict[str, Any] = field(default_factory=dict)
    """The random state at the start of the epoch: the order of the batches was drawn from it."""

    def finished(self) -> History:
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
        """The batches that are left of this epoch, as many at a time as make a step."""
        source, number = self.job.batches, self.at.epoch
        if self.at.batch:  # goes on in the middle: the loader draws its order anew, and skips
            now = random_state(source)
            put_random_state(self.began, source)
            batches = epoch_from(source, number, self.at.batch)
            put_random_state(now, source)
        else:
            self.began = random_state(source)
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
                f"epoch {at.epoch + 1} gave no batches; give a list or a DataLoader, not an iterator that is used up"
            )
        at.losses = (*at.losses, at.total / at.batch)
        at.epoch, at.batch, at.total = at.epoch + 1, 0, 0.0

    # --- checkpoints ---

    def state(self) -> dict[str, Any]:
        """All that the rest of the training depends on, beside the model."""
        scaler = self.stepper.accelerator.scaler
        return {
            "position": asdict(self.at),
            "random": random_state(self.job.batches),
            "began": self.began,
            "optimizer": self.optimizer.state_dict(),
            "order": list(self._order()),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "penalties": [_state_of(penalty) for penalty in self.job.penalties],
        }

    def _order(self) -> Iterator[list[str]]:
        """The parameters of each group by name: what recovery added comes last in its group, not in the model."""
        names = {id(parameter): name for name, parameter in self.job.model.named_parameters()}
        for group in self.optimizer.param_groups:
            if any(id(parameter) not in names for parameter in group["params"]):
                raise InputError(
                    f"{type(self.optimizer).__name__} holds a parameter that {type(self.job.model).__name__} does not "
                    "have, so no checkpoint can name it; give an optimizer of this model alone"
                )
            yield [names[id(parameter)] for parameter in group["params"]]

    def go_on_from(self, saved: Saved) -> None:
        """Put everything back to where it was."""
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
        self.at, self.began = _Position(**state["position"]), state["began"]
        put_random_state(state["random"], self.job.batches)


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


def _state_of(penalty: Any) -> Any:
    """What a penalty remembers from step to step; most remember nothing."""
    return penalty.state_dict() if hasattr(penalty, "state_dict") else None


def epoch_from(source: Source, epoch: int, start: int) -> Iterator[Any]:
    """The batches of an epoch from batch `start` on; skipped without being loaded where the source can."""
    numbered: Callable[..., Any] | None = getattr(source, "epoch", None)
    if not callable(numbered):
        return _without(iter(source), start)
    if start and "start" in inspect.signature(numbered).parameters:
        return iter(numbered(epoch, start=start))
    return _without(iter(numbered(epoch)), start)


def _without(batches: Iterator[Any], count: int) -> Iterator[Any]:
    for _ in itertools.islice(batches, count):
        pass
    return batches


def _loss_of(options: TrainOptions) -> Loss:
    if isinstance(options.loss, str):
        return load_function(options.loss)
    return options.loss or partial(cross_entropy, label_smoothing=options.label_smoothing)


def _check_finite(where: str, lr: float, loss: float) -> None:
    if not math.isfinite(loss):
        raise PruningError(
            f"the loss is {loss} at {where}\n"
            f"cause: most often a learning rate that is too high, now lr={lr}; else inputs that are not finite\n"
            f"mend:  TrainOptions(lr={lr / 10:g}), and check the data"
        )
