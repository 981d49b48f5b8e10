"""The same short training for both sides, and Scratch: the same architecture from new weights, at the same cost."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import cifar, incumbent, ours
from .grid import Sought, told
from .results import Row
from .task import Task, norms_reestimated

STEPS, BATCH, MOMENTUM, DECAY = 200, 128, 0.9, 5e-4
RATE, SCRATCH_RATE = 0.02, 0.1
"""Learning rates of the first step, which fall to zero as a cosine; new weights need a higher one."""

OURS = ("obs + lsq", "taylor + lsq")
THEIRS = ("l2 local", "l2 global", "lamp global", "taylor local", "taylor global", "taylor isomorphic")
SCRATCH = "l2 local"
"""The setting whose architecture Scratch uses."""


def trained(model: nn.Module, train: cifar.Split, seed: int, rate: float = RATE, steps: int = STEPS) -> nn.Module:
    """Return a trained copy: SGD with Nesterov momentum, crops of images padded by four pixels, flips."""
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
    """Flip each image of (b, 3, h, w) uint8 with probability 0.5, shift it by up to four pixels, and normalise it."""
    count, _, height, width = pixels.shape
    padded = F.pad(pixels, (4, 4, 4, 4))
    top, left = torch.randint(9, (2, count), generator=rng).tolist()
    flips = (torch.rand(count, generator=rng) < 0.5).tolist()
    moved = [padded[i, :, y : y + height, x : x + width] for i, (y, x) in enumerate(zip(top, left, strict=True))]
    return cifar.normalised(torch.stack([m.flip(2) if flip else m for m, flip in zip(moved, flips, strict=True)]))


def renewed(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy with newly initialised weights."""
    torch.manual_seed(seed)
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d | nn.Linear):
            module.reset_parameters()
    return model


def rows(side: str, sought: Sought, name: str, seed: int, *, full: bool, quick: bool) -> Iterator[Row]:
    """Yield rows: cut and recover, or re-estimate norms, then train. Scratch is measured with theirs."""
    task, train = cifar.task(name, seed, full=full), cifar.splits()[0]
    steps = 10 if quick else STEPS
    for setting, source in _settings(side, sought.names):
        made: Callable[[float], nn.Module] | None = None
        for share in sought.shares:
            head = {"task": name, "side": source, "name": setting, "share": share, "seed": seed}
            head |= {"images": "all" if full else "subset", "recovery": f"{steps} steps"}
            if sought.seen(head):
                continue
            began = time.perf_counter()
            try:
                made = made or _maker(task, source, setting)
                model, rate = made(share), SCRATCH_RATE if source == "scratch" else RATE
                before = {"top1_before": task.evaluate(model)["top1"]} if source != "scratch" else {}
                small = trained(renewed(model, seed) if source == "scratch" else model, train, seed, rate, steps)
            except Exception as error:
                yield head | {"error": told(error)}
                continue
            seconds = {"seconds": round(time.perf_counter() - began, 2)}
            yield head | task.left(small) | seconds | before | task.evaluate(small)


def _settings(side: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Settings with whose they are."""
    if side == "ours":
        return [(setting, side) for setting in names or OURS]
    return [*((setting, side) for setting in names or THEIRS), (SCRATCH, "scratch")]


def _maker(task: Task, source: str, name: str) -> Callable[[float], nn.Module]:
    """From a share to the model that is to be trained; scores and statistics are shared."""
    if source == "ours":
        setting = ours.Setting.named(name)
        ready = ours.Ready.of(task, [setting])
        return lambda share: ready.cut(ready.plan(setting, share), setting.recovery)
    criterion, _, scope = name.rpartition(" ")
    scores = incumbent.scores(task, criterion, "inner")

    def made(share: float) -> nn.Module:
        model, _ = incumbent.fitted(task, scores, scope, "inner", share)
        return norms_reestimated(model, task.batches) or model

    return made
