"""The same short training for both sides, and Scratch: the same architecture from new weights, for the same cost."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import cifar, incumbent, ours
from .grid import Sought, told
from .results import Row
from .task import Task, norms_reestimated

STEPS, BATCH, MOMENTUM, DECAY = 200, 128, 0.9, 5e-4
RATE, SCRATCH_RATE = 0.02, 0.1
"""Of the first step, falling to zero as a cosine; new weights bear and need more."""

THEIRS = ("l2 local", "l2 global", "lamp global", "taylor local", "taylor global", "taylor isomorphic")
SCRATCH = "l2 local"
"""The architecture that Scratch takes."""


def trained(model: nn.Module, train: cifar.Split, seed: int, rate: float = RATE, steps: int = STEPS) -> nn.Module:
    """A trained copy: SGD with Nesterov's momentum, crops of images padded by four pixels, flips."""
    model = copy.deepcopy(model).train()
    rng = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train.labels), generator=rng)[: steps * BATCH].split(BATCH)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=MOMENTUM, weight_decay=DECAY, nesterov=True)
    for step, where in enumerate(order):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * step / len(order))) / 2
        optimizer.zero_grad()
        F.cross_entropy(model(augmented(train.pixels[where], rng)), train.labels[where]).backward()
        optimizer.step()
    return model.eval()


def augmented(pixels: Tensor, rng: torch.Generator) -> Tensor:
    """(b, 3, h, w) uint8, each flipped half the time and moved by up to four pixels, normalised."""
    count, _, height, width = pixels.shape
    padded = F.pad(pixels, (4, 4, 4, 4))
    top, left = torch.randint(9, (2, count), generator=rng).tolist()
    flips = (torch.rand(count, generator=rng) < 0.5).tolist()
    moved = [padded[i, :, y : y + height, x : x + width] for i, (y, x) in enumerate(zip(top, left, strict=True))]
    return cifar.normalised(torch.stack([m.flip(2) if flip else m for m, flip in zip(moved, flips, strict=True)]))


def renewed(model: nn.Module, seed: int) -> nn.Module:
    """A copy with the initial weights of its layers."""
    torch.manual_seed(seed)
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d | nn.Linear):
            module.reset_parameters()
    return model


def rows(side: str, sought: Sought, name: str, seed: int, *, full: bool, quick: bool) -> Iterator[Row]:
    """Cut, then train; ours also after what `secateur.prune` recovers itself. Scratch comes with theirs."""
    task, train = cifar.task(name, seed, full=full), cifar.splits()[0]
    steps = 10 if quick else STEPS
    for share in sought.shares:
        for setting, source in _settings(side, sought.names, name):
            head = {"task": name, "side": source, "name": setting, "share": share, "seed": seed}
            head |= {"images": "all" if full else "subset", "recovery": f"{steps} steps"}
            if sought.seen(head):
                continue
            began = time.perf_counter()
            try:
                model = _cut(task, source, setting, share)
                rate = SCRATCH_RATE if source == "scratch" else RATE
                small = trained(renewed(model, seed) if source == "scratch" else model, train, seed, rate, steps)
            except Exception as error:
                yield head | {"error": told(error)}
                continue
            seconds = {"seconds": round(time.perf_counter() - began, 2)}
            yield head | task.left(small) | seconds | task.evaluate(small)


def _settings(side: str, names: str, task: str) -> list[tuple[str, str]]:
    """Settings with whose they are."""
    if side == "ours":
        return [(config.name, "ours") for config in ours.configs(task, names)]
    return [*((setting, "theirs") for setting in (names.split(",") if names else THEIRS)), (SCRATCH, "scratch")]


def _cut(task: Task, source: str, setting: str, share: float) -> nn.Module:
    if source == "ours":
        return ours.pruned(task, ours.configs(task.name, setting)[0], share)
    criterion, _, scope = setting.rpartition(" ")
    model, _ = incumbent.fitted(task, incumbent.scores(task, criterion, "inner"), scope, "inner", share)
    return norms_reestimated(model, task.batches) or model
