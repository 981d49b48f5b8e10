"""The memory that a call needs, in bytes, as a function of the counts of axes.

Memory is the sum of two parts:

1. the bytes of all parameters and buffers, where a shared tensor counts once;
2. the peak of the bytes that the first traced call holds at one time, at the batch size of its inputs and without
   gradients: its inputs, and every tensor that an op returns, until nothing refers to it. Views and results written in
   place take no memory of their own. The inputs and outputs of an op are alive at the same time.

The workspace of kernels and the rounding or caching of an allocator do not count, because they differ between machines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from secateur.cost.parts import Storage
from secateur.cost.size_polynomials import Counts, Products, SizePolynomial, Slopes
from secateur.terms import Axis

NEAR = 0.01  # moments at which memory is within about this share of the peak contribute to its slopes


class Memory:
    """The bytes of the tensors of a model, plus the peak of what one call allocates."""

    def __init__(self, tensors: Products, storages: Sequence[Storage], number: Mapping[Axis, int]):
        self.weights = SizePolynomial(tensors, number)
        self._made = SizePolynomial([(s.coefficient, s.terms) for s in storages], number)
        self._fixed = np.array([s.coefficient for s in storages], dtype=np.int64)
        self._fixed *= np.array([math.prod(term.n for term in s.terms) for s in storages], dtype=np.int64)
        self._fixed[self._made.places] = 0
        self._gone = np.array([s.gone for s in storages], dtype=np.intp)

    def __call__(self, counts: Counts) -> int:
        """Return the bytes when axis i has counts[i] units."""
        return int(self.many(counts))

    def many(self, counts: Counts) -> Counts:
        """Return the bytes for many sets of counts at once: (..., axes) -> (...)."""
        return self.weights.many(counts) + self._alive(counts).max(-1, initial=0)

    def _alive(self, counts: Counts) -> Counts:
        """Return the bytes alive when each storage is allocated: (..., storages)."""
        sizes = np.broadcast_to(self._fixed, (*counts.shape[:-1], len(self._fixed))).copy()
        sizes[..., self._made.places] += self._made.parts(counts)
        made = np.moveaxis(sizes, -1, 0)
        freed = np.zeros((len(made) + 1, *made.shape[1:]), dtype=np.int64)
        np.add.at(freed, self._gone, made)
        return np.moveaxis(np.cumsum(made - freed[:-1], axis=0), 0, -1)

    def slopes(self, counts: Counts) -> Slopes:
        """Return the bytes that one more unit of each axis adds, to first order: (axes,).

        Every moment near the peak contributes, with a weight that falls exponentially with its distance to the peak.
        """
        slopes = self.weights.slopes(counts)
        alive = self._alive(counts)
        if not len(self._made.places):
            return slopes
        share = np.exp((alive / max(alive.max(), 1) - 1) / NEAR)
        upto = np.append(0.0, np.cumsum(share / share.sum()))
        lived = upto[self._gone] - upto[:-1]
        return slopes + self._made.slopes(counts, lived[self._made.places])


__all__ = ["Memory"]
