"""`fit`: a training loop that can be interrupted and resumed from a checkpoint.

It uses Accelerate for mixed precision and loss scaling, and runs in one process, on the device of the model.
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
    """Train `model` in place; the same seed results in the same weights.

    Frozen parameters, the modes of modules and the global random state do not change; gradients are None afterwards.

    Args:
        model: The model to train.
        batches: An iterable of (inputs, targets) with a length, such as a DataLoader. If it has a method
            `epoch(number)`, that method returns the batches of each epoch.
        epochs: The number of passes through `batches`.
        options: Optimizer, loss, precision and the like. Default: None, `TrainOptions()`.
        optimizer: Your own, with the highest rates of the schedule. Default: None, the one that `options` name.
        penalties: Added to the gradients of each backward pass; see `secateur.train.penalties`. Default: ().
        teacher: A model to distill from, or `Distillation(model, ...)`. Default: None.
        checkpoint: A `Checkpointing`; after an interruption the same call resumes from its folder, and ends with the
            same weights. Default: None.
        log: "tensorboard", "trackio", either with a place, such as "tensorboard:runs/a", or a function (step, numbers).
            Default: None.
        progress: A function of `Progress`, called after every step. Default: None.

    Returns:
        The mean loss of each epoch, the number of steps and the wall time in seconds.

    Raises:
        InputError: There is nothing to train or no data, or an argument cannot be used.
        PruningError: The loss is not finite; the weights are then those of the step before.
        FileError: The checkpoints belong to another run, or cannot be written.

    Example:
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
