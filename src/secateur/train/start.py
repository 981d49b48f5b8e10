"""`run`: do a training, or the rest of it after a checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from secateur.anatomy.running import device_of, mode, seeded
from secateur.train.accelerating import accelerator
from secateur.train.checkpoint import Saved
from secateur.train.history import History, Watch
from secateur.train.stepping import Stepper
from secateur.train.training import Job, loss_of
from secateur.train.underway import Keeper, Position, UnderWay


def run(job: Job, watch: Watch, keeper: Keeper | None = None, saved: Saved | None = None) -> History:
    """Do a training, or the rest of it after a checkpoint."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mode(job.model, training=True))
        stack.enter_context(seeded(job.options.seed))
        optimizer = job.optimizer or job.options.make_optimizer(job.model)
        stack.callback(job.model.zero_grad, set_to_none=True)
        job.model.zero_grad(set_to_none=True)
        stack.enter_context(_own_rates(optimizer))
        stepper = _stepper(job, stack, optimizer)
        under_way = UnderWay(job, optimizer, stepper, job.dice(), Position(), watch, keeper)
        if saved is not None:
            under_way.go_on_from(saved)
        return under_way.finished()


def _stepper(job: Job, stack: contextlib.ExitStack, optimizer: torch.optim.Optimizer) -> Stepper:
    lessons = stack.enter_context(job.teaching.lessons(job.model)) if job.teaching is not None else None
    fast = stack.enter_context(accelerator(device_of(job.model), job.options.mixed_precision))
    # The wrapper handles the scale of the loss. Without a scale, it would only search for a package in every step.
    wrapped = optimizer if fast.scaler is None else fast.prepare_optimizer(optimizer, device_placement=False)
    clip = job.options.gradients.clip
    return Stepper(fast, job.model, wrapped, loss_of(job.options), clip, job.penalties, lessons)


@contextlib.contextmanager
def _own_rates(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Let each group decay from its own learning rate, and restore that rate afterwards for further training."""
    ours = [i for i, group in enumerate(optimizer.param_groups) if "initial_lr" not in group]
    for i in ours:
        optimizer.param_groups[i]["initial_lr"] = optimizer.param_groups[i]["lr"]
    try:
        yield
    finally:
        for i in ours:  # by index: a checkpoint restores groups as new dicts
            group = optimizer.param_groups[i]
            group["lr"] = group.pop("initial_lr", group["lr"])
