"""The loop: batches become gradients, gradients become steps, and whoever is killed goes on from a checkpoint.

It runs on Accelerate, for mixed precision and the scale of the loss, in one process, on the device of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from secateur.data.batches import Source
from secateur.errors import InputError
from secateur.train.checkpoint import Checkpointing
from secateur.train.distill import Distillation
from secateur.train.history import History, Progress
from secateur.train.logs import LogLike, opened_log
from secateur.train.losses import cross_entropy
from secateur.train.options import OPTIMIZERS, TrainOptions
from secateur.train.start import run
from secateur.train.stepping import StepPenalty, listed
from secateur.train.training import Job
from secateur.train.underway import Keeper


def fit(
    model: nn.Module,
    batches: Source,
    *,
    epochs: int,
    options: TrainOptions | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    penalties: Sequence[StepPenalty] = (),
    teacher: nn.Module | Distillation | None = None,
    checkpoint: Checkpointing | None = None,
    log: LogLike = None,
    progress: Callable[[Progress], None] | None = None,
) -> History:
    """Train `model` in place on `epochs` passes through `batches`; the same seed gives the same weights.

    `batches` yields (inputs, targets) and has a length; where it has a method `epoch(number)`, that gives the batches
    of each epoch. Parameters that do not require gradients stay. Gradients are None afterwards; modes and the global
    random state are as before. `progress` is called after every step.

    `optimizer`: one of the user's own, with its rates, which then rise and fall as `options` say. `penalties` pull
    after every backward pass. `teacher`: a model to learn from, or `Distillation(model, ...)`. `checkpoint`: where a
    killed training goes on, to the same weights. `log`: "tensorboard", "trackio", or either with a place, such as
    "tensorboard:runs/a".

    Raises `InputError` when there is nothing to train or to train on, `PruningError` when the loss is no longer finite:
    the weights are then those of the step before; and `FileError` for checkpoints of another run, or that cannot be
    written.

    >>> _ = torch.manual_seed(0)
    >>> model, batches = nn.Linear(2, 2), [(torch.eye(2), torch.tensor([0, 1]))] * 20
    >>> history = fit(model, batches, epochs=2, options=TrainOptions(lr=0.5))
    >>> history.steps, history.losses[1] < history.losses[0]
    (40, True)
    """
    teaching, checkpoint = Distillation.of(teacher), Checkpointing.of(checkpoint)
    if teaching is not None and teaching.teacher is model:
        raise InputError("the teacher is the model itself; give another one, such as copy.deepcopy(model)")
    job = Job(model, batches, epochs, TrainOptions.of(options), listed(penalties), teaching, optimizer)
    store = checkpoint.opened(job.identity()) if checkpoint is not None else None
    saved = store.newest() if store is not None else None
    with opened_log(log, job.about(), saved.step if saved is not None else 0) as opened:

        def watch(now: Progress) -> None:
            opened.write(now.step, {"loss": now.loss, "lr": now.lr, "epoch": now.epoch})
            if progress is not None:
                progress(now)

        return run(job, watch, Keeper(store, opened.flush) if store is not None else None, saved)


__all__ = ["OPTIMIZERS", "History", "Progress", "TrainOptions", "cross_entropy", "fit"]
