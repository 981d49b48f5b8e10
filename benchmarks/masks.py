"""Test that masked weights stay zero; measure the overhead of masks in training and the error of a cut from masks.

    python benchmarks/masks.py            # all three, about three minutes on one thread
    python benchmarks/masks.py zeros      # one of: zeros, overhead, cut

On ResNet-20 with trained weights and CIFAR-10 (JPEG q75) if these are installed, otherwise on random ones.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

import record
import secateur
from secateur.data import load_data
from secateur.data.cifar import find
from secateur.errors import InputError
from secateur.masks import Masks, mask
from secateur.models.cifar_resnet import resnet20
from secateur.proof.replay import in_float64
from secateur.train.schedules import cubic, every

STEPS = 1000
BATCH = 8  # in the 1,000 steps; the overhead is measured at 128
PAIRS = 12
WEIGHTS = "resnet20_cifar10jpeg.safetensors"
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD, momentum 0.9, weight decay 5e-4": lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, weight_decay=5e-4),
    "AdamW, weight decay 0.05": lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.05),
}


def network() -> tuple[nn.Module, str]:
    """Return ResNet-20 and the name of its weights."""
    torch.manual_seed(0)
    model = resnet20()
    try:
        model.load_state_dict(load_file(find().with_name(WEIGHTS)))
    except (InputError, FileNotFoundError):
        return model, "random weights"
    return model, WEIGHTS


def batches(size: int) -> tuple[Iterator[tuple[Tensor, Tensor]], str]:
    """Return an endless iterator of training batches, and the name of the data."""
    try:
        data: Any = load_data("cifar10-jpeg", batch_size=size, seed=0).train
    except InputError:
        generator = torch.Generator().manual_seed(0)
        made = [(torch.randn(size, 3, 32, 32, generator=generator), torch.arange(size) % 10) for _ in range(16)]
        return itertools.cycle(made), "random images"
    return (batch for epoch in itertools.count() for batch in data.epoch(epoch)), "CIFAR-10 (JPEG q75)"


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def zeros() -> dict[str, Any]:
    """Count the masked weights that are not zero after each of 1,000 steps, half of them under a cubic schedule."""
    return {name: _zeros(make) for name, make in OPTIMIZERS.items()}


def _zeros(make: Callable[[Any], torch.optim.Optimizer]) -> dict[str, Any]:
    (model, weights), (data, images) = network(), batches(BATCH)
    model.train()
    optimizer = make(model.parameters())
    for _ in range(20):  # so that the optimizer has momentum when the masks are added
        step(model, optimizer, *next(data))
    masks = mask(model, 0.0)
    pruner = masks.follow(every(cubic(0.1, STEPS // 2), 10))
    losses, wrong = [], 0
    for _ in range(STEPS):
        losses.append(step(model, optimizer, *next(data)))
        pruner.step()
        wrong += not_zero(model, masks)
    return {
        "weights": weights,
        "data": images,
        "batch": BATCH,
        "steps": STEPS,
        "sparsity": masks.sparsity,
        "masked": sum(int((~kept).sum()) for kept in masks.masks.values()),
        "not_zero_in_any_step": wrong,
        "loss": {"first_50": statistics.mean(losses[:50]), "last_50": statistics.mean(losses[-50:])},
    }


def not_zero(model: nn.Module, masks: Masks) -> int:
    """Return the number of masked weights that are not zero when the model reads them."""
    read = ((model.get_submodule(name.rpartition(".")[0]).weight, kept) for name, kept in masks.masks.items())
    return sum(int((weight.detach()[~kept] != 0).sum()) for weight, kept in read)


def overhead() -> dict[str, Any]:
    """Measure a training step with and without masks, in alternation."""
    (model, weights), (data, images) = network(), batches(128)
    x, y = next(data)
    plain, masked = model.train(), copy.deepcopy(model)
    mask(masked, 0.9)
    runs = {"plain": plain, "masked": masked}
    optimizers = {
        name: torch.optim.SGD(m.parameters(), 0.01, momentum=0.9, weight_decay=5e-4) for name, m in runs.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(PAIRS + 1):
        for name in sorted(runs, reverse=bool(turn % 2)):
            started = time.perf_counter()
            step(runs[name], optimizers[name], x, y)
            if turn:  # the first warms up
                seconds[name].append(time.perf_counter() - started)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    ratios = [m / p for m, p in zip(seconds["masked"], seconds["plain"], strict=True)]
    return {
        "weights": weights,
        "data": images,
        "batch": 128,
        "threads": torch.get_num_threads(),
        "pairs": PAIRS,
        "seconds": median,
        "overhead": median["masked"] / median["plain"] - 1,
        "overhead_of_pairs": statistics.median(ratios) - 1,
    }


def cut() -> dict[str, Any]:
    """Measure the relative error, in float64, of a model cut from masks against the masked model."""
    cases: dict[str, tuple[float, Any]] = {
        "magnitude, 95 %": (0.95, "magnitude"),
        "magnitude, 99 %": (0.99, "magnitude"),
        "input channels by their norm, 50 %": (0.5, by_input),
    }
    return {name: _cut(*case) for name, case in cases.items()}


def by_input(name: str, weight: Tensor) -> Tensor:
    """Score every weight by the norm of its input channel."""
    others = [dim for dim in range(weight.dim()) if dim != 1]
    return torch.linalg.vector_norm(weight, dim=others, keepdim=True).expand_as(weight)


def _cut(sparsity: float, criterion: Any) -> dict[str, Any]:
    model, weights = network()
    model.eval()
    masks = mask(model, sparsity, criterion=criterion, protect=["conv1", "linear"])
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plan = masks.plan(x[:1])
    small = secateur.cut(model, plan)
    before, after = (in_float64(m)(x.double()).detach() for m in (model, small))
    return {
        "weights": weights,
        "sparsity": masks.sparsity,
        "units_cut": sum(axis.size - axis.kept_count for axis in plan.axes.values()),
        "params": {"before": plan.before.params, "after": plan.after.params},
        "macs": {"before": plan.before.macs, "after": plan.after.macs},
        "error": float((before - after).norm() / before.norm()),
    }


SECTIONS: dict[str, Callable[[], dict[str, Any]]] = {"zeros": zeros, "overhead": overhead, "cut": cut}


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    for name in names or list(SECTIONS):
        figures = SECTIONS[name]()
        print(name, figures, flush=True)
        record.write("masks", name, figures)


if __name__ == "__main__":
    main(sys.argv[1:])
