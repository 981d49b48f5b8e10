"""Attention divides by the root of the head size. When heads shrink, their query is scaled to make up for it.

Which rows of the producing layer are the query is found by running the recorded chain of shape-only ops once on an
array of row numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from ..graph import Fold
from ..terms import Term, freeze
from .typed import Origin, Typed


def place_folds(recorded: Sequence[tuple[Term, Typed, str]]) -> list[Fold]:
    """The parameter rows to scale for each head size; a head size whose query cannot be placed freezes."""
    folds: dict[tuple[str, int, tuple[tuple[int, int], ...]], Fold] = {}
    for term, query, where in recorded:
        if query.origin is None:
            freeze(term, f"attention divides by the root of it, and its query is no plain layer output ({where})")
            continue
        channels = _rows(query.origin)
        for place in query.origin.parameters:
            rows = _ranges([place.start + channel for channel in channels])
            folds.setdefault((place.name, place.dim, rows), Fold(place.name, place.dim, rows, term))
    return list(folds.values())


def _rows(origin: Origin) -> list[int]:
    """The channels of a layer's output that are left after a chain of views and selections."""
    shape = [1] * len(origin.shape)
    shape[origin.channel] = origin.shape[origin.channel]
    numbers: Any = torch.arange(origin.shape[origin.channel]).view(shape).expand(origin.shape)
    for name, arguments in origin.steps:
        numbers = numbers[arguments[0]] if name == "piece" else _replayed(name, numbers, arguments)
    seen = torch.zeros(origin.shape[origin.channel], dtype=torch.bool)
    seen[numbers.reshape(-1)] = True
    return seen.nonzero().flatten().tolist()


def _replayed(name: str, numbers: torch.Tensor, arguments: Sequence[Any]) -> Any:
    if name in ("aten::view", "aten::_unsafe_view"):
        return numbers.reshape(arguments[0])
    return getattr(torch.ops.aten, name.partition("::")[2])(numbers, *arguments)


def _ranges(rows: Sequence[int]) -> tuple[tuple[int, int], ...]:
    runs = []
    for _, run in itertools.groupby(enumerate(rows), key=lambda pair: pair[1] - pair[0]):
        numbers = [row for _, row in run]
        runs.append((numbers[0], numbers[-1] + 1))
    return tuple(runs)
