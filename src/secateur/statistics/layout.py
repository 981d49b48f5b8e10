"""Finds the examples of a batch in the input of each weight: along one dimension, alone or merged with others.

Two runs are compared, on a batch and on its first half: the dimension that shrinks holds the examples. If it holds
several positions of each (tokens, windows), either all positions of one example are adjacent, or the examples
alternate; the inputs in the two runs show which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from secateur.graph.graph import Graph
from secateur.statistics.batches import CalibrationBatch
from secateur.statistics.listening import Listener, Read

Places: TypeAlias = "tuple[str, int]"
"""The name of a weight, and its number of earlier reads in the same run."""

ALIKE = 0.05
"""Profiles of the same examples differ by less than this share of their largest value, in any precision."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The examples are along `dim`, each with `places` positions; `outer`: those of one example are adjacent."""

    dim: int
    places: int
    outer: bool

    def by_example(self, values: Tensor, channel: int) -> Tensor:
        """Sum values of the shape of the input over all dimensions but channels and examples: (channels, examples)."""
        moved = values.movedim((channel, self.dim), (0, 1))
        split = (-1, self.places) if self.outer else (self.places, -1)
        apart = moved.unflatten(1, split).movedim(1 if self.outer else 2, 1)
        return apart.flatten(2).sum(2)


def layouts(graph: Graph, batch: CalibrationBatch) -> dict[Places, Layout]:
    """Return the layout of each read, except of reads that mix examples or do not distinguish them."""
    half = batch.examples // 2
    assert half, "a batch of one example shows no layout"
    try:
        part = _profiles(graph, batch.first(half))
    except (RuntimeError, ValueError, IndexError, AssertionError):  # a model that accepts only one batch size
        return {}
    whole = _profiles(graph, batch)
    found = {key: _layout(part[key], whole[key], half, batch.examples) for key in whole if key in part}
    return {key: layout for key, layout in found.items() if layout is not None}


@dataclass(frozen=True, slots=True)
class _Profile:
    """The shape of an input, and the sums of |x| along each of its dimensions but the channels."""

    shape: torch.Size
    along: Mapping[int, Tensor]


def _profiles(graph: Graph, batch: CalibrationBatch) -> dict[Places, _Profile]:
    seen: dict[Places, _Profile] = {}

    def note(read: Read) -> None:
        seen[read.reader.weight, read.number] = _profile(read.x.detach(), read.channel)

    with torch.no_grad(), Listener(graph.model, graph.readers, note, parts=True).running():
        batch.call.run(graph.model)
    return seen


def _profile(x: Tensor, channel: int) -> _Profile:
    size = x.abs().double()
    return _Profile(
        x.shape,
        {dim: size.sum([d for d in range(x.dim()) if d != dim]) for dim in range(x.dim()) if dim != channel},
    )


def _layout(part: _Profile, whole: _Profile, half: int, examples: int) -> Layout | None:
    if len(part.shape) != len(whole.shape):
        return None
    changed = [dim for dim, n in enumerate(whole.shape) if part.shape[dim] != n]
    if len(changed) != 1 or changed[0] not in whole.along:
        return None
    (dim,) = changed
    places, left = divmod(whole.shape[dim], examples)
    if left or part.shape[dim] != places * half:
        return None
    few, all_ = part.along[dim], whole.along[dim]
    first = {True: all_[: len(few)], False: all_.unflatten(0, (places, examples))[:, :half].flatten()}
    apart = {outer: float((few - same).abs().max()) for outer, same in first.items()}
    outer = apart[True] <= apart[False]
    return Layout(dim, places, outer) if apart[outer] <= ALIKE * float(all_.abs().max()) else None


__all__ = ["Layout", "Places", "layouts"]
