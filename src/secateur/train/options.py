"""How to train, as a value: the optimizer, its rate, and how gradients become a step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from secateur.base.table import Table
from secateur.errors import InputError, nearest
from secateur.models.functions import load_function
from secateur.train.accelerating import check_precision
from secateur.train.number_options import check_number, check_whole

Loss = Callable[[Any, Any], Tensor]
"""(output, targets) -> a tensor of one element."""


@dataclass(frozen=True, slots=True)
class _Optimizer:
    """How to make an optimizer of (parameters, lr=, weight_decay=), and the rate that suits most models."""

    make: Callable[..., torch.optim.Optimizer]
    lr: float


OPTIMIZERS: Table[str, _Optimizer] = Table(
    "optimizers named",
    {
        "sgd": _Optimizer(partial(torch.optim.SGD, momentum=0.9, nesterov=True), lr=0.02),
        "adamw": _Optimizer(torch.optim.AdamW, lr=1e-3),
    },
)
"""The names that `TrainOptions.optimizer` may have; SGD has a Nesterov momentum of 0.9."""


@dataclass(frozen=True, slots=True)
class Gradients:
    """How gradients become a step: the mean over `accumulate` batches, scaled down to a norm of at most `clip`.

    The last step of an epoch has the batches that are left. Raises `InputError` for a number out of range.

    >>> Gradients(accumulate=4, clip=1.0).accumulate
    4
    """

    accumulate: int = 1
    clip: float | None = None

    def __post_init__(self) -> None:
        check_whole("accumulate", self.accumulate, lambda n: n >= 1, "it must be at least 1")
        if self.clip is not None:
            check_number("clip", self.clip, lambda clip: 0 < clip < math.inf, "it must be above 0")


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train. Raises `InputError` for an unknown optimizer or a number out of range.

    `lr` is the highest rate, by default 0.02 for SGD and 0.001 for AdamW; it is reached after `warmup` steps. `loss` is
    a function (output, targets) -> scalar or `path/file.py:function`, by default cross entropy, whose targets
    `label_smoothing` mixes with the uniform distribution. `seed` is that of dropout and the like. `mixed_precision` is
    "bf16", "fp16" or "no"; None means bfloat16 on a CUDA device that has it, else none, and True demands it.

    >>> TrainOptions(optimizer="adamw", lr=3e-4).lr
    0.0003
    """

    optimizer: str = "sgd"
    lr: float | None = None
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    loss: Loss | str | None = None
    seed: int = 0
    mixed_precision: str | bool | None = None
    warmup: int = 0
    gradients: Gradients = field(default_factory=Gradients)

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            known = ", ".join(OPTIMIZERS)
            raise InputError(f"no optimizer {self.optimizer!r}; known: {known}{nearest(self.optimizer, OPTIMIZERS)}")
        if self.lr is not None:
            check_number("lr", self.lr, lambda lr: 0 < lr < math.inf, "it must be above 0")
        check_number("weight_decay", self.weight_decay, lambda decay: 0 <= decay < math.inf, "it must be 0 or above")
        below = "it must be 0 or above, and below"
        check_number("label_smoothing", self.label_smoothing, lambda share: 0 <= share < 1, f"{below} 1")
        check_whole("seed", self.seed, lambda seed: 0 <= seed < 2**32, f"{below} {2**32}")
        if self.loss is not None and self.label_smoothing:
            raise InputError("label_smoothing is part of the default loss; leave it out, or leave out loss")
        check_whole("warmup", self.warmup, lambda steps: steps >= 0, "it is a number of steps, 0 or above")
        if not isinstance(self.gradients, Gradients):
            raise InputError(f"gradients is {self.gradients!r}; give Gradients(accumulate=4, clip=1.0)")
        check_precision(self.mixed_precision)

    @staticmethod
    def of(options: TrainOptions | None) -> TrainOptions:
        """The same, or the usual ones. Raises `InputError` for what are none, such as a dict."""
        if options is not None and not isinstance(options, TrainOptions):
            raise InputError(f"options is a {type(options).__name__}; give TrainOptions(lr=0.01, ...)")
        return options or TrainOptions()

    @property
    def own_loss(self) -> Loss | None:
        """The user's own, read from its file where it is named."""
        return load_function(self.loss) if isinstance(self.loss, str) else self.loss

    @property
    def peak(self) -> float:
        """The highest rate."""
        return self.lr or OPTIMIZERS[self.optimizer].lr

    def factor(self, step: int, steps: int) -> float:
        """The rate of step t of T, from 0, as a share of the highest.

        With W = `warmup`: (t + 1) / (W + 1) before step W, then (1 + cos(pi * (t - W) / (T - W))) / 2 (Loshchilov and
        Hutter, SGDR, ICLR 2017, eq. 5, without restarts).

        >>> [round(TrainOptions(warmup=1).factor(t, 5), 3) for t in range(5)]
        [0.5, 1.0, 0.854, 0.5, 0.146]
        """
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        return (1 + math.cos(math.pi * (step - self.warmup) / (steps - self.warmup))) / 2

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """A fresh optimizer of what `model` trains. Raises `InputError` where that is nothing."""
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not parameters:
            raise InputError(f"{type(model).__name__} has no parameter that requires gradients; nothing to train")
        return OPTIMIZERS[self.optimizer].make(parameters, lr=self.peak, weight_decay=self.weight_decay)
