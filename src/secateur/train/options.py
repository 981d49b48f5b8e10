"""Options of a training: the optimizer, its learning rate, and how gradients become a step."""

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
    """A constructor (parameters, lr=, weight_decay=) of an optimizer, and the default learning rate."""

    make: Callable[..., torch.optim.Optimizer]
    lr: float


OPTIMIZERS: Table[str, _Optimizer] = Table(
    "optimizers named",
    {
        "sgd": _Optimizer(partial(torch.optim.SGD, momentum=0.9, nesterov=True), lr=0.02),
        "adamw": _Optimizer(torch.optim.AdamW, lr=1e-3),
    },
)
"""The optimizers by the names that `TrainOptions.optimizer` takes; SGD has a Nesterov momentum of 0.9."""


@dataclass(frozen=True, slots=True)
class Gradients:
    """Gradient accumulation and clipping.

    Attributes:
        accumulate: The number of batches whose mean gradient makes a step; the last step of an epoch may have fewer.
            Default: 1.
        clip: The largest L2 norm of the gradient; a larger gradient is scaled down. Default: None, no limit.

    Raises:
        InputError: A number is out of range.

    Example:
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
    """Options of a training.

    Attributes:
        optimizer: "sgd" or "adamw". Default: "sgd".
        lr: The highest learning rate, reached after `warmup` steps. Default: None, 0.02 for SGD and 0.001 for AdamW.
        weight_decay: The weight decay of the optimizer. Default: 1e-4.
        label_smoothing: The share of the uniform distribution in the targets of the default loss. Default: 0.0.
        loss: A function (output, targets) -> scalar, or `path/file.py:function`. Default: None, cross entropy.
        seed: The seed of dropout and other random numbers. Default: 0.
        mixed_precision: "bf16", "fp16" or "no". True: "bf16", or an error if the device does not have it. Default:
            None, "bf16" on a CUDA device that has it, else "no".
        warmup: The number of steps in which the learning rate rises. Default: 0.
        gradients: Gradient accumulation and clipping. Default: `Gradients()`.

    Raises:
        InputError: The optimizer is unknown, or a number is out of range.

    Example:
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
        """Return the options, or the defaults for None. Raises `InputError` for another type, such as a dict."""
        if options is not None and not isinstance(options, TrainOptions):
            raise InputError(f"options is a {type(options).__name__}; give TrainOptions(lr=0.01, ...)")
        return options or TrainOptions()

    @property
    def own_loss(self) -> Loss | None:
        """The user's loss, imported from its file if it is a string; None for the default loss."""
        return load_function(self.loss) if isinstance(self.loss, str) else self.loss

    @property
    def peak(self) -> float:
        """The highest learning rate."""
        return self.lr or OPTIMIZERS[self.optimizer].lr

    def factor(self, step: int, steps: int) -> float:
        """Return the learning rate of step t of T as a share of the highest.

        With W = `warmup`: (t + 1) / (W + 1) before step W, then (1 + cos(pi * (t - W) / (T - W))) / 2.

        Args:
            step: t, from 0.
            steps: T.

        Returns:
            A share from 0 to 1.

        Example:
            >>> [round(TrainOptions(warmup=1).factor(t, 5), 3) for t in range(5)]
            [0.5, 1.0, 0.854, 0.5, 0.146]

        Reference:
            Loshchilov and Hutter, SGDR, ICLR 2017, eq. 5, without restarts.
        """
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        return (1 + math.cos(math.pi * (step - self.warmup) / (steps - self.warmup))) / 2

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Make an optimizer of the parameters that require gradients. Raises `InputError` if there are none."""
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not parameters:
            raise InputError(f"{type(model).__name__} has no parameter that requires gradients; nothing to train")
        return OPTIMIZERS[self.optimizer].make(parameters, lr=self.peak, weight_decay=self.weight_decay)
