"""Sets the smallest weights to zero and fine-tunes, round by round, until accuracy drops further than allowed.

Masks keep the zeros during training (`secateur.mask`). At the end they are made permanent and units that are entirely
zero are cut. For comparison, the same sparse network is trained from random weights.

    secateur recipe magnitude --quick
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor, nn
from typer import Option

import secateur
from secateur.anatomy.running import seeded
from secateur.data import Data, load_data
from secateur.errors import InputError, nearest
from secateur.masks import Masks, mask, masks_of
from secateur.recipes.framework import Options, Result, Row, size, subset
from secateur.train import TrainOptions, evaluate, fit

NAME = "magnitude"
SOURCE = "Han et al., Learning both Weights and Connections for Efficient Neural Networks, NIPS 2015"
CLAIM = "LeNet-300-100 and LeNet-5 keep their accuracy on MNIST with 8 % of their weights (table 1: 12x smaller)"
SPARSITIES = (0.5, 0.75, 0.85, 0.9, 0.92, 0.95, 0.97, 0.98, 0.99)
"""The share of weights that is zero, round by round."""
QUICK_SPARSITIES = (0.5, 0.8, 0.9)
QUICK = {"train": 4_000, "test": 1_000}
LR = {"mlp": 0.05, "cnn": 0.01}
"""The peak learning rate. The convolutional network has no norms, and its loss may diverge at 0.05."""
EXAMPLE = torch.zeros(1, 1, 28, 28)


class LeNet300(nn.Module):
    """LeNet-300-100; x: (n, 1, 28, 28) -> scores (n, 10)"""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, 300), nn.Linear(300, 100), nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc3(self.fc2(self.fc1(x.flatten(1)).relu()).relu())


class LeNet5(nn.Module):
    """LeNet-5 as in Caffe; x: (n, 1, 28, 28) -> scores (n, 10)"""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, 10)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv2(self.pool(self.conv1(x))))
        return self.fc2(self.fc1(x.flatten(1)).relu())


NETS: dict[str, Callable[[], nn.Module]] = {"mlp": LeNet300, "cnn": LeNet5}


@dataclass(frozen=True)
class Bench:
    """The data, and how long to train on them."""

    data: Data
    epochs: int
    finetune_epochs: int
    options: Options

    def trained(self, model: nn.Module, epochs: int, lr: float) -> float:
        """Train in place and return the accuracy on the test data."""
        fit(model, self.data.train, epochs=epochs, options=TrainOptions(lr=lr, seed=self.options.seed))
        return self.accuracy(model)

    def accuracy(self, model: nn.Module) -> float:
        return evaluate(model, self.data.test)

    def row(self, method: str, model: nn.Module, masks: Masks | None = None, /, **metric: float) -> Row:
        """Return the figures of a network, and report them as progress."""
        self.options.say(f"{method}: " + ", ".join(f"{key} {100 * value:.2f} %" for key, value in metric.items()))
        more = {"sparsity": masks.sparsity, "density": masks.density} if masks is not None else {}
        return Row(method, *size(model, EXAMPLE), metric, more)


def run(
    options: Options,
    *,
    net: Annotated[str, Option(help="mlp, cnn or both.")] = "both",
    data: Annotated[str, Option(help="mnist, fashion-mnist, or file.py:function with images of the same size.")] = (
        "mnist"
    ),
    max_drop: Annotated[
        float, Option(min=0.0, help="Loss of accuracy against the dense network that ends the rounds.")
    ] = 0.005,
    scope: Annotated[str, Option(help="Which weights are ranked together: global, layer or output.")] = "layer",
    epochs: Annotated[int, Option(min=1, help="Epochs of training the dense network.")] = 8,
    finetune_epochs: Annotated[int, Option(min=1, help="Epochs after each round.")] = 3,
    batch_size: Annotated[int, Option(min=1, help="Examples per batch.")] = 64,
) -> Result:
    """Prune the smallest weights, fine-tune, repeat; stop at the allowed drop."""
    if net != "both" and net not in NETS:
        raise InputError(f"--net {net}: one of {', '.join(NETS)}, both{nearest(net, NETS)}")
    every = load_data(data, batch_size=batch_size, seed=options.seed)
    if options.quick:
        every, epochs, finetune_epochs = subset(every, **QUICK, seed=options.seed), min(epochs, 3), 1
    bench = Bench(every, epochs, finetune_epochs, options)
    rows = [row for name in NETS if net in ("both", name) for row in _rows(name, bench, max_drop, scope)]
    some = f"{QUICK['train']:,} training and {QUICK['test']:,} test images of " if options.quick else ""
    told = f"{some}{data}, trained {epochs} epochs and {finetune_epochs} a round; the source trained until it converged"
    return Result(NAME, CLAIM, told, tuple(rows), {"max_drop": max_drop, "scope": scope})


def _rows(name: str, bench: Bench, max_drop: float, scope: str) -> Iterator[Row]:
    with seeded(bench.options.seed):
        model = NETS[name]()
    dense = bench.trained(model, bench.epochs, LR[name])
    yield bench.row(f"{name}, dense", model, dense=dense)
    best = copy.deepcopy(model)
    mask(best, 0.0, scope=scope)
    for sparsity in QUICK_SPARSITIES if bench.options.quick else SPARSITIES:
        trial = copy.deepcopy(best)
        masks = masks_of(trial, scope=scope)
        masks.update(sparsity)
        after_cut = bench.accuracy(trial)
        finetuned = bench.trained(trial, bench.finetune_epochs, LR[name] / 5)
        row = bench.row(f"{name}, {100 * sparsity:.0f} % zero", trial, masks, after_cut=after_cut, finetuned=finetuned)
        good = finetuned >= dense - max_drop
        yield replace(row, more={**row.more, "good": good})
        if not good:
            break
        best = trial
    yield from _results(name, best, bench)


def _results(name: str, model: nn.Module, bench: Bench) -> Iterator[Row]:
    """Yield rows for the last good network: with dead units cut and masks hardened, and from random weights."""
    masks = masks_of(model)
    small = secateur.cut(model, masks.plan(EXAMPLE))
    masks_of(small).harden()
    yield bench.row(f"{name}, dead units cut", small, finetuned=bench.accuracy(small))
    with seeded(bench.options.seed + 1):
        fresh = NETS[name]()
    kept = masks.masks
    copied = mask(
        fresh, masks.sparsity, criterion=lambda layer, weight: kept[layer].to(weight)
    )  # scores: one for weights that stay
    scratch = bench.trained(fresh, bench.epochs + bench.finetune_epochs, LR[name])
    yield bench.row(f"{name}, same masks from scratch", fresh, copied, scratch=scratch)
