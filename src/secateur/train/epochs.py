"""Iterate over the batches of an epoch, from any batch on."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from secateur.data.batches import Source


def epoch_from(source: Source, epoch: int, start: int) -> Iterator[Any]:
    """Iterate over the batches of an epoch from batch `start` on, without loading earlier ones if the source can."""
    numbered: Callable[..., Any] | None = getattr(source, "epoch", None)
    if not callable(numbered):
        return _without(iter(source), start)
    if start and "start" in inspect.signature(numbered).parameters:
        return iter(numbered(epoch, start=start))
    return _without(iter(numbered(epoch)), start)


def _without(batches: Iterator[Any], count: int) -> Iterator[Any]:
    for _ in itertools.islice(batches, count):
        pass
    return batches


@dataclass(frozen=True)
class Later:
    """The same batches, with `before` added to the numbers of their epochs."""

    batches: Any
    before: int

    @staticmethod
    def of(batches: Source, before: int) -> Source:
        """Return `batches` themselves if they do not use the number of the epoch."""
        return Later(batches, before) if callable(getattr(batches, "epoch", None)) else batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        return epoch_from(self.batches, number + self.before, start)


__all__ = ["Later", "epoch_from"]
