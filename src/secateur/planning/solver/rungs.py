"""All rungs of all bundles in arrays, with the loss and the saving of each descent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur.cost.size_polynomials import Counts, Slopes
from secateur.graph.graph import Graph
from secateur.planning.solver.bundles import Bundle

Chosen = npt.NDArray[np.intp]  # the rung of each bundle, 0 the highest


class Rungs:
    """Rungs of bundles: b is on rung chosen[b] of `height[b]` + 1; descent first[b] + j leads from its rung j to j + 1.

    `loss` holds the scores that each descent removes. Negative losses count as 0, since nothing is removed unless a
    target requires it.
    """

    def __init__(self, graph: Graph, bundles: Sequence[Bundle]):
        self.height: Chosen = np.array([len(b.levels) - 1 for b in bundles], dtype=np.intp)
        self.first: Chosen = np.cumsum(self.height) - self.height
        self.owner: Chosen = np.repeat(np.arange(len(bundles)), self.height)
        self.loss: Slopes = np.maximum(_joined([bundle.loss for bundle in bundles], np.float64), 0.0)
        self.lost: Slopes = np.append(0.0, np.cumsum(self.loss))
        self._lay_out(graph, bundles)

    def _lay_out(self, graph: Graph, bundles: Sequence[Bundle]) -> None:
        """Store the levels and falls of every group, group after group."""
        self._unit = np.array([axis.size // graph.groups[axis.group].steps for axis in graph.axes], dtype=np.int64)
        self._group = np.array([axis.group for axis in graph.axes], dtype=np.intp)
        of_group = {g: (b, i) for b, bundle in enumerate(bundles) for i, g in enumerate(bundle.groups)}
        self._bundle = np.array([of_group[g][0] for g in range(len(of_group))], dtype=np.intp)
        columns = [np.array(bundles[b].levels, dtype=np.int64)[:, i] for _, (b, i) in sorted(of_group.items())]
        self._levels = _joined(columns, np.int64)
        falls = [-np.diff(column) for column in columns]
        self._start = np.cumsum([0, *(len(column) for column in columns)], dtype=np.intp)[:-1]
        self._falls = _joined(falls, np.int64)
        self._faller = np.repeat(np.arange(len(falls)), [len(fall) for fall in falls])
        below = [self.first[b] + np.arange(len(fall)) for b, fall in zip(self._bundle, falls, strict=True)]
        self._fallen = _joined(below, np.intp)  # the descent in which each fall happens

    def counts(self, chosen: Chosen) -> Counts:
        """Return units per axis: (..., bundles) -> (..., axes)."""
        return self._levels[self._start + chosen[..., self._bundle]][..., self._group] * self._unit

    def savings(self, slopes: Slopes) -> Slopes:
        """Return what each descent saves if one unit of each axis costs `slopes`: (axes) -> (descents)."""
        per_step = np.bincount(self._group, slopes * self._unit, len(self._start))
        return np.bincount(self._fallen, per_step[self._faller] * self._falls, len(self.loss)).astype(
            np.float64, copy=False
        )

    def loss_of(self, chosen: Chosen) -> Slopes:
        """Return the sum of the removed scores: (..., bundles) -> (...)."""
        return (self.lost[self.first + chosen] - self.lost[self.first]).sum(-1)


def _joined(parts: Sequence[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype)


__all__ = ["Chosen", "Rungs"]
