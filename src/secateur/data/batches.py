"""Batches of (inputs, targets) that can be iterated over any number of times, always in the same order.

The order depends only on the seed and the number of the epoch, not on earlier reads: an epoch can be repeated, and
calibration reads the same examples before and after training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from secateur.errors import InputError

Batch: TypeAlias = tuple[Tensor, Tensor]
"""Inputs x: (n, ...) float32 and targets y: (n,) int64."""


class Source(Protocol):
    """Batches that can be iterated over repeatedly and have a length, such as a list or a DataLoader.

    If a source has a method `epoch(number)`, it is called for each epoch, and may shuffle by the number.
    """

    def __iter__(self) -> Iterator[Batch]: ...

    def __len__(self) -> int: ...


def pair_of(batch: Any, where: str = "the data") -> tuple[Any, Any]:
    """Return a batch as inputs and targets. Raises `InputError` if it is not a pair; `where` names its source.

    >>> pair_of([1, 2])
    (1, 2)
    """
    if not (isinstance(batch, (tuple, list)) and len(batch) == 2):
        many = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise InputError(f"{where} yielded a {type(batch).__name__}{many}, not a pair; yield (inputs, targets)")
    return batch[0], batch[1]


def length_of(batches: Any) -> int:
    """Return the number of batches. Raises `InputError` for an object without a length, or with single examples."""
    if isinstance(batches, Dataset):
        raise InputError(f"{type(batches).__name__} holds examples; give batches: DataLoader(dataset, batch_size=64)")
    try:
        return len(batches)
    except TypeError as error:
        raise InputError(
            f"{type(batches).__name__} has no length: {error}\n"
            "give a list, a DataLoader of a dataset with a length, or an object with __len__ and __iter__"
        ) from error


@dataclass(frozen=True, slots=True)
class Data:
    """Training and test batches; `num_classes` is None if it is unknown."""

    train: Source
    test: Source
    num_classes: int | None


@dataclass(frozen=True, slots=True)
class Request:
    """The options of a data set, except its name; see `load_data`."""

    train_path: str | None = None
    test_path: str | None = None
    image_size: int = 224
    batch_size: int = 64
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Batches:
    """Batches of examples `load(indices) -> x: (n, ...)` and `targets: (examples,)`, at most `batch_size` each.

    With a seed they are shuffled in every epoch; without, they are in order. No example is left out: batch sizes
    differ by at most one example, so that batch norm never sees a tiny last batch.

    augment: (x, generator) -> x, applied to the batches of a numbered epoch, with a generator that depends only on
    seed, epoch and batch. Iteration without a number, as for calibration, yields the examples of epoch 0 without
    augmentation.

    >>> import torch
    >>> batches = Batches(lambda i: torch.as_tensor(i, dtype=torch.float32), torch.arange(5), batch_size=3)
    >>> [(x.tolist(), y.tolist()) for x, y in batches]
    [([0.0, 1.0, 2.0], [0, 1, 2]), ([3.0, 4.0], [3, 4])]
    """

    load: Callable[[NDArray[np.int64]], Tensor]
    targets: Tensor
    batch_size: int
    seed: int | None = None
    augment: Callable[[Tensor, np.random.Generator], Tensor] | None = None

    def __len__(self) -> int:
        return -(-len(self.targets) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for indices in self._batches(0):
            yield self.load(indices), self.targets[indices]

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch `number`, counted from 0, from batch `start` on; earlier ones are not loaded."""
        for place, indices in enumerate(self._batches(number)[start:], start):
            x = self.load(indices)
            if self.augment is not None:
                x = self.augment(x, np.random.default_rng([self.seed or 0, number, place]))
            yield x, self.targets[indices]

    def _batches(self, number: int) -> list[NDArray[np.int64]]:
        # array_split does not accept zero sections.
        return np.array_split(self._order(number), len(self)) if len(self) else []

    def _order(self, number: int) -> NDArray[np.int64]:
        order = np.arange(len(self.targets))
        return order if self.seed is None else np.random.default_rng([self.seed, number]).permutation(order)
