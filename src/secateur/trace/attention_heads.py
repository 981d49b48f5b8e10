"""Recognises attention in the recorded ops, and marks axes as attention heads or as dimensions of a head.

Attention consists of three steps, however it is written: scores are a product of queries and keys, a softmax is taken
over them, and the result is multiplied by the values. The dimensions that all three share are heads; the dimension that
queries and keys are summed over, and the other dimension of the values, are dimensions of a head. Deformable attention
samples values instead, with its heads folded into the batch of a `grid_sample`. Axes without a mark hold channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from secateur.terms import HEAD, HEAD_DIM, Axis, Term, axes, mark_kind


class Attention:
    """The batched products that may be scores, and the dimensions of softmaxes, in the order of the run."""

    def __init__(self) -> None:
        self._products: list[tuple[Sequence[Term], Term]] = []
        self._attended: list[Term] = []

    def product(self, result: Sequence[Term], summed: Term) -> None:
        """Record x: [*b, n, i], y: [*b, i, m] -> [*b, n, m], given the terms of the result and of i."""
        if len(result) < 3:
            return
        met = set(axes(summed))
        if any(not met.isdisjoint(axes(term)) for term in self._attended):
            for term in result[-2:]:
                mark_kind(term, HEAD_DIM)
        self._products.append((result, summed))

    def softmax(self, dims: Sequence[Term], dim: int) -> None:
        """Record a softmax over a dimension of what may be scores."""
        flat = _flat(dims)
        for result, summed in reversed(self._products):
            if _flat(result) == flat:
                self.scores(result[:-2], summed)
                self._attended.append(dims[dim])
                return

    def sampling(self, batch: Term, inner: Term) -> None:
        """Record that each image of a batch is sampled at its own positions: units of the batch are folded heads."""
        heads = [axis for axis in axes(batch) if axis.frozen is None]
        if heads:
            self.scores(heads, inner)

    def scores(self, heads: Sequence[Term], *inner: Term) -> None:
        """Mark dimensions that attention runs along as heads, and those that it sums over or returns as head dims."""
        for term in heads:
            mark_kind(term, HEAD)
        for term in inner:
            mark_kind(term, HEAD_DIM)


def _flat(dims: Sequence[Term]) -> list[Axis]:
    """Return the axes of several dimensions in order, which views that merge or split dimensions do not change."""
    return [axis for dim in dims for axis in axes(dim) if axis.n > 1]
