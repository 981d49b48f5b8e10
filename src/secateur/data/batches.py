"""Batches of (inputs, targets) that can be gone through any number of times, always in the same order.

The order depends on the seed and on the number of the epoch, never on what was read before: an epoch can be repeated,
and calibration reads the same examples whether training came first or not.
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
    """Batches that can be gone through again, and how many there are. A list or a DataLoader is one.

    A source with a method `epoch(number)` is asked for each epoch by its number, and may shuffle by it.
    """

    def __iter__(self) -> Iterator[Batch]: ...

    def __len__(self) -> int: ...


def pair_of(batch: Any, where: str = "the data") -> tuple[Any, Any]:
    """A batch as inputs and targets. Raises `InputError` for what is none, which came from `where`.

    >>> pair_of([1, 2])
    (1, 2)
    """
    if not (isinstance(batch, (tuple, list)) and len(batch) == 2):
        many = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise InputError(f"{where} gave a {type(batch).__name__}{many}, not a pair; yield (inputs, targets)")
    return batch[0], batch[1]


def length_of(batches: Any) -> int:
    """How many batches there are. Raises `InputError` for what has no length, or holds single examples."""
    if isinstance(batches, Dataset):
        raise InputError(f"{type(batches).__name__} holds examples; give batches: DataLoader(dataset, batch_size=64)")
    try:
        return len(batches)
    except TypeError as error:
        raise InputError(
            f"{type(batches).__name__} cannot tell how many batches it has: {error}\n"
            "give a list, a DataLoader of a dataset with a length, or an object with __len__ and __iter__"
        ) from error


@dataclass(frozen=True, slots=True)
class Data:
    """Training and test batches; `num_classes` is None where the source does not say."""

    train: Source
    test: Source
    num_classes: int | None


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked of a data set, beside its name; see `load_data`."""

    train_path: str | None = None
    test_path: str | None = None
    image_size: int = 224
    batch_size: int = 64
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Batches:
    """The examples `load(indices) -> x: (n, ...)` beside `targets: (examples,)`, at most `batch_size` at a time.

    With a seed they are shuffled, anew in every epoch; without, they come in order. No example is left out: batches
    differ by one example at most, so the last is no tiny one that batch norm would stumble on.

    augment: (x, generator) -> x, applied to the batches of a numbered epoch, with a generator that depends on seed,
    epoch and batch alone. Who goes through the batches without a number, as calibration does, gets the examples of
    epoch 0 as they are.

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
        """The batches of epoch `number`, counted from 0, from batch `start` on; those before it are not loaded."""
        for place, indices in enumerate(self._batches(number)[start:], start):
            x = self.load(indices)
            if self.augment is not None:
                x = self.augment(x, np.random.default_rng([self.seed or 0, number, place]))
            yield x, self.targets[indices]

    def _batches(self, number: int) -> list[NDArray[np.int64]]:
        # A list of no examples has no batches; array_split would not have it.
        return np.array_split(self._order(number), len(self)) if len(self) else []

    def _order(self, number: int) -> NDArray[np.int64]:
        order = np.arange(len(self.targets))
        return order if self.seed is None else np.random.default_rng([self.seed, number]).permutation(order)
