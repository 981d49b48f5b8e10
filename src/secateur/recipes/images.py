"""What the recipes for image classification share: opening data, training and evaluating networks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.anatomy.running import mode, seeded
from secateur.data import DATASETS, Batch, Batches, Data, Source, load_data
from secateur.errors import InputError
from secateur.recipes.framework import Options, Row, of_classes, size, subset
from secateur.train import TrainOptions, evaluate, fit

CALIBRATION = 16  # batches


@dataclass(frozen=True)
class Images:
    """Which images, how many of them (None: all), and how large: `side` pixels, or unchanged if they are smaller.

    classes: the classes to distinguish; empty: all. Images of the user, from folders or a function, are all used.
    """

    data: str
    train: int | None = None
    test: int | None = None
    side: int = 32
    batch_size: int = 64
    train_path: str | None = None
    test_path: str | None = None
    classes: tuple[int, ...] = ()

    @property
    def folders(self) -> bool:
        return bool(self.train_path or self.test_path)

    @property
    def counts(self) -> tuple[int | None, int | None]:
        """The numbers of training and test images."""
        return (self.train, self.test) if self.data in DATASETS and not self.folders else (None, None)

    def load(self, seed: int) -> Data:
        """Return the batches."""
        data = load_data(
            "folder" if self.folders else self.data,
            train_path=self.train_path,
            test_path=self.test_path,
            image_size=self.side,
            batch_size=self.batch_size,
            seed=seed,
        )
        data = of_classes(data, self.classes) if self.classes else data
        data = subset(data, *self.counts, seed)
        return Data(Smaller(data.train, self.side), Smaller(data.test, self.side), data.num_classes)

    def __str__(self) -> str:
        name = f"the folder {self.train_path}" if self.folders else self.data
        return f"classes {', '.join(map(str, self.classes))} of {name}" if self.classes else name


@dataclass(frozen=True, slots=True)
class Smaller:
    """Batches of images (n, c, h, w), reduced to side x side by averaging pixels if they are larger."""

    source: Source
    side: int

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Batch]:
        return ((self._smaller(x), y) for x, y in self.source)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Return the batches of one epoch, from batch `start` on."""
        numbered: Callable[[int, int], Iterator[Batch]] | None = getattr(self.source, "epoch", None)
        batches = numbered(number, start) if numbered else itertools.islice(self.source, start, None)
        return ((self._smaller(x), y) for x, y in batches)

    def _smaller(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.side) if x.shape[-1] > self.side else x


@dataclass(frozen=True)
class ImageBench:
    """Data, an example image, and the steps taken on networks. told: a description of the data."""

    data: Data
    example: Tensor
    options: Options
    told: str

    @classmethod
    def open(cls, images: Images, options: Options) -> ImageBench:
        data = images.load(options.seed)
        return cls(data, next(iter(data.test))[0][:1], options, f"{_counted(data)}images of {images}")

    @property
    def classes(self) -> int:
        """The number of classes, from the data or else from the labels."""
        labels = (int(y.max()) for split in (self.data.train, self.data.test) for _, y in split)
        return self.data.num_classes or 1 + max(labels)

    @property
    def channels(self) -> int:
        return self.example.shape[1]

    def calibration(self, batches: int = CALIBRATION) -> Sequence[Batch]:
        """Return the first training batches."""
        return list(itertools.islice(self.data.train, batches))

    def built(self, build: Callable[..., nn.Module], **how: Any) -> nn.Module:
        """Return a network with weights drawn by the seed. Raises `InputError` if the images are too small for it."""
        with seeded(self.options.seed):
            model = build(channels=self.channels, num_classes=self.classes, **how)
        try:
            with mode(model, training=False), torch.no_grad():
                model(self.example)
        except RuntimeError as error:
            raise InputError(
                f"images of {tuple(self.example.shape[1:])} do not fit this network: {error}\n"
                "a VGG-16 halves them four times: give an image size of 16 or more"
            ) from error
        return model

    def trained(self, model: nn.Module, epochs: int, lr: float, **more: Any) -> float:
        """Train in place and return the accuracy on the test images."""
        fit(model, self.data.train, epochs=epochs, options=TrainOptions(lr=lr, seed=self.options.seed), **more)
        return self.accuracy(model)

    def accuracy(self, model: nn.Module) -> float:
        return evaluate(model, self.data.test)

    def row(self, method: str, model: nn.Module, *, more: dict[str, Any] | None = None, **metric: float) -> Row:
        """Return the figures of a network, and report them as progress."""
        row = Row(method, *size(model, torch.zeros_like(self.example)), metric, more or {})
        figures = ", ".join(f"{key} {100 * value:.2f} %" for key, value in metric.items())
        self.options.say(f"{method}: {row.params:,} parameters, {row.macs:,} MACs, {figures}")
        return row


def _counted(data: Data) -> str:
    """Return the numbers of examples as a phrase, if they are known."""
    sources = [split.source if isinstance(split, Smaller) else split for split in (data.train, data.test)]
    counts = [len(source.targets) for source in sources if isinstance(source, Batches)]
    return f"{counts[0]:,} training and {counts[1]:,} test " if len(counts) == 2 else ""


__all__ = ["ImageBench", "Images", "Smaller"]
