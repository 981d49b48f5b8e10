"""The batches of the user's calibration data: (inputs, targets), or inputs alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from secateur.anatomy.calls import Call, usual
from secateur.base.nested import changed, is_object, tensors_in
from secateur.errors import InputError


class NoBatches(InputError):
    """Raised if the calibration data contain no batches."""

    def __init__(self) -> None:
        super().__init__(
            "data contains no batches; a generator can be iterated only once\n"
            "pass a list, or another object that can be iterated again"
        )


@dataclass(frozen=True, slots=True)
class CalibrationBatch:
    """One batch: the call of the model, the targets of the loss (or None), and the number of examples.

    The number of examples is the first dimension of the first tensor.
    """

    call: Call
    targets: Any
    examples: int

    @staticmethod
    def of(item: Any, number: int) -> CalibrationBatch:
        """Return the batch for an item of the user's data: a pair, or a tensor or dict of inputs.

        Raises `InputError` for anything else, and for a batch without examples.
        """
        pair = isinstance(item, (tuple, list)) and len(item) == 2
        if not pair and not isinstance(item, (torch.Tensor, Mapping, Call)) and not _is_input(item):
            raise InputError(
                f"data yielded {type(item).__name__} as batch {number}\n"
                "yield pairs (inputs, targets), or inputs alone as a tensor or a dict of keyword arguments"
            )
        inputs, targets = (item[0], item[1]) if isinstance(item, (tuple, list)) else (item, None)
        call = Call.of(inputs)
        first = next((t for t in tensors_in((call.args, dict(call.kwargs))) if t.dim()), None)
        if first is None or not len(first):
            raise InputError(f"batch {number} of data contains no examples")
        return CalibrationBatch(Call(call.args, call.kwargs), changed(targets, usual), len(first))

    def first(self, n: int) -> CalibrationBatch:
        """Return the batch of the first n examples."""
        return CalibrationBatch(self.call.map(lambda t: t[:n] if t.dim() and len(t) == self.examples else t), None, n)

    def to(self, device: torch.device | None) -> CalibrationBatch:
        """Return the batch on another device."""
        if device is None:
            return self
        moved = changed(self.targets, lambda t: t.to(device))
        return CalibrationBatch(self.call.map(lambda t: t.to(device)), moved, self.examples)


def _is_input(item: Any) -> bool:
    return not isinstance(item, (tuple, list)) and is_object(item) and bool(tensors_in(item))


def batches(data: Iterable[Any], device: torch.device | None = None) -> Iterator[CalibrationBatch]:
    """Yield the batches of the user's data on the device of the model. Raises `InputError` if there are none."""
    if isinstance(data, (torch.Tensor, Mapping, str, bytes)) or not isinstance(data, Iterable):
        raise InputError(
            f"data is a {type(data).__name__}\npass batches: a list or DataLoader of (inputs, targets) pairs"
        )
    number = -1
    for number, item in enumerate(data):
        yield CalibrationBatch.of(item, number).to(device)
    if number < 0:
        raise NoBatches


__all__ = ["CalibrationBatch", "NoBatches", "batches"]
