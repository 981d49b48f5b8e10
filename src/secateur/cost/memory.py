"""How much memory a call needs, as a function of the counts of axes.

That is the bytes of all parameters and buffers, each shared one once, and the most that is alive at one time of what
the first traced call makes, at the batch size of its inputs and without gradients: its inputs, which the caller holds,
and every tensor that an op gives from then until nothing refers to it. Views and results written in place hold nothing
of their own. An op's inputs and outputs live at one time. What a kernel uses in between, and what an allocator rounds
up or keeps, does not count: this is what every machine needs, not what one of them takes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from secateur.cost.parts import Storage
from secateur.cost.size_polynomials import Counts, Products, SizePolynomial, Slopes
from secateur.terms import Axis

NEAR = 0.01  # moments within about this share of the peak have a say in its slopes


class Memory:
    """Bytes of the tensors of a model, and the peak of what one call makes."""

    def __init__(self, tensors: Products, storages: Sequence[Storage], number: Mapping[Axis, int]):
        self.weights = SizePolynomial(tensors, number)
        self._made = SizePolynomial([(s.coefficient, s.terms) for s in storages], number)
        self._fixed = np.array([s.coefficient for s in storages], dtype=np.int64)
        self._fixed *= np.array([math.prod(term.n for term in s.terms) for s in storages], dtype=np.int64)
        self._fixed[self._made.places] = 0
        self._gone = np.array([s.gone for s in storages], dtype=np.intp)

    def __call__(self, counts: Counts) -> int:
        """Bytes."""
        return int(self.many(counts))

    def many(self, counts: Counts) -> Counts:
        """For many sets of counts at once: (..., axes) -> (...)."""
        return self.weights.many(counts) + self._alive(counts).max(-1, initial=0)

    def _alive(self, counts: Counts) -> Counts:
        """Bytes alive when each storage is born: (..., storages)."""
        sizes = np.broadcast_to(self._fixed, (*counts.shape[:-1], len(self._fixed))).copy()
        sizes[..., self._made.places] += self._made.parts(counts)
        made = np.moveaxis(sizes, -1, 0)
        freed = np.zeros((len(made) + 1, *made.shape[1:]), dtype=np.int64)
        np.add.at(freed, self._gone, made)
        return np.moveaxis(np.cumsum(made - freed[:-1], axis=0), 0, -1)

    def slopes(self, counts: Counts) -> Slopes:
        """What one more unit of each axis adds, the moments near the peak weighed by how near they are."""
        slopes = self.weights.slopes(counts)
        alive = self._alive(counts)
        if not len(self._made.places):
            return slopes
        share = np.exp((alive / max(alive.max(), 1) - 1) / NEAR)
        upto = np.append(0.0, np.cumsum(share / share.sum()))
        lived = upto[self._gone] - upto[:-1]
        return slopes + self._made.slopes(counts, lived[self._made.places])


__all__ = ["Memory"]
