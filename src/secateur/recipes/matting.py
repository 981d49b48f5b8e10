"""Data, training, measurements and sizes for the recipe of the matting network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from secateur.anatomy.running import call, mode, seeded
from secateur.data import Batch
from secateur.data.matting import Composites, composites
from secateur.models.modnet import MODNet
from secateur.recipes.framework import Options, Row, size
from secateur.recipes.matting_losses import mad, modnet_loss, mse
from secateur.recipes.mobilenet_trunk import load_trunk, trunk_path
from secateur.report import timings
from secateur.train import Progress, TrainOptions, fit

SIDE = 512
"""Side in pixels of the image that MACs and time are measured for; composites are smaller."""


@dataclass(frozen=True)
class MattingSizes:
    """Side of a composite in pixels, images per batch, and numbers of batches for each purpose."""

    side: int
    batch: int
    dense: int
    tuning: int
    calibration: int
    test: int
    calls: int  # timed calls


FULL = MattingSizes(side=96, batch=8, dense=280, tuning=100, calibration=4, test=16, calls=10)
QUICK = MattingSizes(side=64, batch=8, dense=90, tuning=24, calibration=2, test=6, calls=5)

LR, TUNING_LR = 3e-3, 1e-3


@dataclass(frozen=True)
class Errors:
    """Mean squared error and mean absolute difference of mattes, pixel by pixel; alpha is between 0 and 1."""

    mse: float
    mad: float


@dataclass(frozen=True)
class MattingWorkshop:
    """The data, and the steps taken on a model. `example`: the input that MACs are counted for."""

    sizes: MattingSizes
    options: Options
    train: Composites
    test: Sequence[Batch] = field(repr=False)
    example: Tensor = field(default_factory=lambda: torch.zeros(1, 3, SIDE, SIDE), repr=False)

    @classmethod
    def open(cls, sizes: MattingSizes, options: Options) -> MattingWorkshop:
        """Open the data. Raises `InputError` if the font or scikit-image is missing."""
        train = composites("train", side=sizes.side, batches=sizes.dense, batch_size=sizes.batch, seed=options.seed)
        test = composites("test", side=sizes.side, batches=sizes.test, batch_size=sizes.batch)
        return cls(sizes, options, train, list(test))

    def batches(self, count: int, kind: int) -> Composites:
        """Return further training batches, different for each kind."""
        return replace(self.train, batches=count, seed=1000 * (self.options.seed + 1) + kind)

    def dense(self) -> MODNet:
        """Return a MODNet trained on composites, with an ImageNet encoder if its weights are installed."""
        with seeded(self.options.seed):
            model = MODNet()
        path = trunk_path()
        if path is not None:
            load_trunk(model.backbone, path)
        self.options.say(f"encoder: {path or 'random weights'}")
        self.fitted(model, self.train, LR)
        return model.eval()

    def fitted(
        self, model: nn.Module, batches: Composites, lr: float, optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        """Train in place for one epoch, with a cosine schedule from `lr`, or from the rate of the optimizer."""

        def say(now: Progress) -> None:
            if now.step % max(1, now.steps // 4) == 0:
                self.options.say(f"  step {now.step} of {now.steps}: loss {now.loss:.3f}")

        fit(model, batches, epochs=1, options=self.training(lr), optimizer=optimizer, progress=say)

    def training(self, lr: float) -> TrainOptions:
        """Return options for AdamW, a short warm-up, and the losses of MODNet."""
        return TrainOptions(optimizer="adamw", lr=lr, loss=modnet_loss, seed=self.options.seed, warmup=5)

    def errors(self, model: nn.Module) -> Errors:
        """Return the errors of a model's mattes against the true alpha, on the test images."""
        with mode(model, training=False), torch.no_grad():
            found = [(mse(out, y), mad(out, y)) for out, y in ((call(model, (x, True)), y) for x, y in self.test)]
        return Errors(*(sum(values) / len(values) for values in zip(*found, strict=True)))

    def row(self, method: str, model: nn.Module, **when: Errors) -> Row:
        """Return the figures of a model, and report them as progress."""
        metric = {name: errors.mse for name, errors in when.items()}
        metric |= {f"{name}_mad": errors.mad for name, errors in when.items()}
        row = Row(method, *size(model, self.example), metric)
        self.options.say(f"{method}: " + ", ".join(f"{key} {value:.4f}" for key, value in metric.items()))
        return row

    def latency(self, dense: nn.Module, small: nn.Module) -> dict[str, float]:
        """Measure milliseconds and MACs of one matte (`inference=True`), with calls of both models alternating."""
        old, new = timings([dense.eval(), small.eval()], [self.example, True], repeats=self.sizes.calls)
        return {
            "dense_ms": round(old.median, 1),
            "pruned_ms": round(new.median, 1),
            "speedup": round(old.median / new.median, 3),
            "dense_macs": size(dense, (self.example, True))[1],
            "pruned_macs": size(small, (self.example, True))[1],
            "threads": torch.get_num_threads(),
        }


__all__ = ["FULL", "LR", "QUICK", "SIDE", "TUNING_LR", "Errors", "MattingSizes", "MattingWorkshop"]
