"""The steps of both masked recipes: a trained network is cut to exact widths, with units chosen in several ways.

The network is trained, cut in one step to the requested widths, and fine-tuned. The last row, for comparison, is the
same small network from random weights, trained for as many epochs as training and fine-tuning took together.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from secateur.anatomy.running import seeded
from secateur.data import Batch, Data, load_data
from secateur.recipes.framework import Options, Row, scratch, size, subset
from secateur.train import TrainOptions, evaluate, fit

METHODS: dict[str, dict[str, Any]] = {
    "random": {"importance": "random"},
    "l1": {"importance": "l1"},
    "taylor": {"importance": "taylor"},
    "obs": {"importance": "obs"},
    "obs + lsq": {"importance": "obs", "recover": "lsq"},
}
"""The name of a row -> the arguments of `secateur.prune` that choose and recover the units."""

LR = 0.05
"""For training and for fine-tuning: returning to the rate of training works better than a small rate (Renda et al.,
Comparing Rewinding and Fine-tuning in Neural Network Pruning, ICLR 2020)."""

QUICK = {"train": 12_000, "test": 2_000}
CALIBRATION = 16  # batches


@dataclass(frozen=True)
class MaskedCase:
    """A network, an example of its input, and the widths that its axes should have."""

    build: Callable[[], nn.Module]
    example: Tensor
    widths: Mapping[str, int]


@dataclass(frozen=True)
class MaskedTraining:
    """The data, and how long to train."""

    data: str = "mnist"
    epochs: int = 4
    finetune_epochs: int = 2
    batch_size: int = 64


@dataclass(frozen=True)
class MaskedWorkshop:
    """A case with its data, and the steps taken on it."""

    case: MaskedCase
    training: MaskedTraining
    options: Options
    data: Data
    calibration: Sequence[Batch] = field(repr=False)

    @classmethod
    def open(cls, case: MaskedCase, training: MaskedTraining, options: Options) -> MaskedWorkshop:
        data = load_data(training.data, batch_size=training.batch_size, seed=options.seed)
        data = subset(data, **QUICK, seed=options.seed) if options.quick else data
        return cls(case, training, options, data, list(itertools.islice(data.train, CALIBRATION)))

    def trained(self, model: nn.Module, epochs: int) -> float:
        """Train in place and return the accuracy on the test data."""
        fit(model, self.data.train, epochs=epochs, options=TrainOptions(lr=LR, seed=self.options.seed))
        return evaluate(model, self.data.test)

    def pruned(self, dense: nn.Module, **how: Any) -> nn.Module:
        """Return the dense network cut to the widths of the case."""
        return secateur.prune(
            dense,
            self.case.example,
            select=secateur.Select(widths=self.case.widths),
            data=self.calibration,
            loss=F.cross_entropy,
            seed=self.options.seed,
            **how,
        ).model

    def row(self, method: str, model: nn.Module, **metric: float) -> Row:
        """Return the figures of a network, and report them as progress."""
        row = Row(method, *size(model, self.case.example), metric)
        self.options.say(f"{method}: " + ", ".join(f"{key} {100 * value:.2f} %" for key, value in metric.items()))
        return row


def compare(case: MaskedCase, training: MaskedTraining, options: Options) -> tuple[Row, ...]:
    """Return a row for the dense network, the small one by each method, and the small one from scratch."""
    shop = MaskedWorkshop.open(case, training, options)
    with seeded(options.seed):
        dense = case.build()
    rows = [shop.row("dense", dense, dense=shop.trained(dense, training.epochs))]
    small = dense
    for method, how in METHODS.items():
        started = time.perf_counter()
        small = shop.pruned(dense, **how)
        seconds = time.perf_counter() - started
        after_cut = evaluate(small, shop.data.test)
        finetuned = shop.trained(small, training.finetune_epochs)
        row = shop.row(method, small, after_cut=after_cut, finetuned=finetuned)
        rows.append(Row(row.method, row.params, row.macs, row.metric, {"seconds_to_cut": round(seconds, 2)}))
    fresh = scratch(small, options.seed)
    rows.append(
        shop.row("from scratch", fresh, scratch=shop.trained(fresh, training.epochs + training.finetune_epochs))
    )
    return tuple(rows)


def told(training: MaskedTraining, options: Options, source: str) -> str:
    """Describe the data and training of the figures, and how they differ from the source."""
    some = f"{QUICK['train']:,} training and {QUICK['test']:,} test images of " if options.quick else ""
    return f"{some}{training.data}, trained {training.epochs} + {training.finetune_epochs} epochs; {source}"


__all__ = ["METHODS", "MaskedCase", "MaskedTraining", "compare", "told"]
