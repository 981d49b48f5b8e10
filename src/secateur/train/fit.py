"""A plain, seeded loop: one optimizer, a cosine schedule, cross entropy or a loss of the user's own.

The rate at step t of T is lr * (1 + cos(pi * t / T)) / 2 (Loshchilov and Hutter, SGDR, ICLR 2017, eq. 5, without
restarts). On a device that has bfloat16 units the forward pass uses them, which needs no loss scaling.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.data.batches import Source
from secateur.errors import InputError, PruningError, nearest
from secateur.models.functions import load_function
from secateur.train.running import call, device_of, mode, seeded, to_device

Loss = Callable[[Any, Any], Tensor]
"""(output, targets) -> a tensor of one element."""


@dataclass(frozen=True, slots=True)
class _Optimizer:
    """How to make an optimizer of (parameters, lr=, weight_decay=), and the rate that suits most models."""

    make: Callable[..., torch.optim.Optimizer]
    lr: float


OPTIMIZERS: dict[str, _Optimizer] = {
    "sgd": _Optimizer(partial(torch.optim.SGD, momentum=0.9, nesterov=True), lr=0.02),
    "adamw": _Optimizer(torch.optim.AdamW, lr=1e-3),
}
"""The names that `TrainOptions.optimizer` may have; SGD has a Nesterov momentum of 0.9."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train. Raises `InputError` for an unknown optimizer or a number out of range.

    `lr` is the rate of the first step, by default 0.02 for SGD and 0.001 for AdamW. `loss` is a function (output,
    targets) -> scalar or `path/file.py:function`, by default cross entropy, whose targets `label_smoothing` mixes with
    the uniform distribution. `seed` is that of dropout and the like. `mixed_precision` None means: where the device
    has it (bfloat16 on CUDA).

    >>> TrainOptions(optimizer="adamw", lr=3e-4).lr
    0.0003
    """

    optimizer: str = "sgd"
    lr: float | None = None
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    loss: Loss | str | None = None
    seed: int = 0
    mixed_precision: bool | None = None

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            known = ", ".join(OPTIMIZERS)
            raise InputError(f"no optimizer {self.optimizer!r}; known: {known}{nearest(self.optimizer, OPTIMIZERS)}")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise InputError(f"lr is {self.lr}; it must be above 0")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay is {self.weight_decay}; it must be 0 or above")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing is {self.label_smoothing}; it must be 0 or above, and below 1")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed is {self.seed}; it must be 0 or above, and below {2**32}")
        if self.loss is not None and self.label_smoothing:
            raise InputError("label_smoothing is part of the default loss; leave it out, or leave out loss")


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known after a step: its number of `steps` (from 1), its epoch (from 1), its loss and its rate."""

    step: int
    steps: int
    epoch: int
    loss: float
    lr: float


@dataclass(frozen=True, slots=True)
class History:
    """What happened: the mean training loss of each epoch, the number of steps, and the wall time in seconds."""

    losses: tuple[float, ...]
    steps: int
    seconds: float


def fit(
    model: nn.Module,
    batches: Source,
    *,
    epochs: int,
    options: TrainOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> History:
    """Train `model` in place on `epochs` passes through `batches`; the same seed gives the same weights.

    `batches` yields (inputs, targets) and has a length; where it has a method `epoch(number)`, that gives the batches
    of each epoch. Parameters that do not require gradients stay. Gradients are None afterwards; modes and the global
    random state are as before. `progress` is called after every step. Raises `InputError` when there is nothing to
    train or to train on, and `PruningError` when the loss is no longer finite: the weights are then those of the step
    before.

    >>> _ = torch.manual_seed(0)
    >>> model, batches = nn.Linear(2, 2), [(torch.eye(2), torch.tensor([0, 1]))] * 20
    >>> history = fit(model, batches, epochs=2, options=TrainOptions(lr=0.5))
    >>> history.steps, history.losses[1] < history.losses[0]
    (40, True)
    """
    options = options or TrainOptions()
    if epochs < 1:
        raise InputError(f"epochs is {epochs}; it must be at least 1")
    run = _Run.start(model, options, steps=epochs * len(batches))
    started = time.perf_counter()
    with mode(model, training=True), seeded(options.seed):
        try:
            losses = tuple(_epoch(run, _batches_of(batches, epoch), epoch, progress) for epoch in range(epochs))
        finally:
            run.optimizer.zero_grad(set_to_none=True)
    return History(losses, run.done, time.perf_counter() - started)


@dataclass(slots=True)
class _Run:
    """One training under way."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Loss
    lr: float
    steps: int
    precision: torch.autocast
    done: int = 0

    @classmethod
    def start(cls, model: nn.Module, options: TrainOptions, steps: int) -> _Run:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not parameters:
            raise InputError(f"{type(model).__name__} has no parameter that requires gradients; nothing to train")
        if not steps:
            raise InputError("there is nothing to train on: 0 batches; check the data")
        kind = OPTIMIZERS[options.optimizer]
        lr = options.lr or kind.lr
        optimizer = kind.make(parameters, lr=lr, weight_decay=options.weight_decay)
        optimizer.zero_grad(set_to_none=True)
        return cls(model, optimizer, _loss_of(options), lr, steps, _precision(model, options.mixed_precision))

    def step(self, inputs: Any, targets: Any, epoch: int) -> Progress:
        lr = self.lr * (1 + math.cos(math.pi * self.done / self.steps)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with self.precision:
            loss = self.loss(call(self.model, inputs), to_device(targets, device_of(self.model)))
        self.done += 1
        progress = Progress(self.done, self.steps, epoch + 1, loss.item(), lr)
        _check_finite(progress, self.lr)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return progress


def _epoch(run: _Run, batches: Iterable[Any], epoch: int, report: Callable[[Progress], None] | None) -> float:
    total, count = 0.0, 0
    for inputs, targets in batches:
        progress = run.step(inputs, targets, epoch)
        total, count = total + progress.loss, count + 1
        if report:
            report(progress)
    if not count:
        raise InputError(
            f"epoch {epoch + 1} gave no batches; give a list or a DataLoader, not an iterator that is used up"
        )
    return total / count


def _batches_of(batches: Source, epoch: int) -> Iterable[Any]:
    numbered: Callable[[int], Iterable[Any]] | None = getattr(batches, "epoch", None)
    return numbered(epoch) if callable(numbered) else batches


def _loss_of(options: TrainOptions) -> Loss:
    if isinstance(options.loss, str):
        return load_function(options.loss)
    return options.loss or partial(cross_entropy, label_smoothing=options.label_smoothing)


def cross_entropy(output: Any, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """The mean cross entropy of scores `output: (n, classes, ...)`; raises `InputError` for what are none.

    >>> cross_entropy(torch.zeros(1, 2), torch.tensor([0])).exp()
    tensor(2.)
    """
    if not isinstance(output, Tensor):
        raise InputError(f"the model returned {type(output).__name__}, not a tensor of scores; give a loss of your own")
    return F.cross_entropy(output, targets, label_smoothing=label_smoothing)


def _precision(model: nn.Module, wanted: bool | None) -> torch.autocast:
    device = device_of(model)
    has = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if wanted and not has:
        raise InputError(f"mixed_precision is True, but device {device} has none; leave it out")
    return torch.autocast(device.type, torch.bfloat16, enabled=has if wanted is None else wanted)


def _check_finite(progress: Progress, lr: float) -> None:
    if not math.isfinite(progress.loss):
        raise PruningError(
            f"the loss is {progress.loss} at step {progress.step} of {progress.steps} (epoch {progress.epoch})\n"
            f"cause: most often a learning rate that is too high, now lr={lr}; else inputs that are not finite\n"
            f"mend:  TrainOptions(lr={lr / 10:g}), and check the data"
        )
