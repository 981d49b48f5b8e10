"""What the units of an axis are, where the arithmetic tells: attention heads, and the dimensions inside a head.

Attention shows in three steps, however it is written: scores are a product of queries and keys, a softmax is taken
over them, and its outcome is multiplied with values. What all three run along are heads; what queries and keys are
summed over, and what values have besides, are the dimensions of a head. Deformable attention samples values instead,
its heads folded into the batch of a `grid_sample`. An axis that nothing marks holds channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from secateur.terms import HEAD, HEAD_DIM, Axis, Term, axes, mark_kind


class Attention:
    """Batched products that may be scores, and what softmaxes were taken over, in the order of a run."""

    def __init__(self) -> None:
        self._products: list[tuple[Sequence[Term], Term]] = []
        self._attended: list[Term] = []

    def product(self, result: Sequence[Term], summed: Term) -> None:
        """x: [*b, n, i], y: [*b, i, m] -> [*b, n, m], with the terms of the result and of i."""
        if len(result) < 3:
            return
        met = set(axes(summed))
        if any(not met.isdisjoint(axes(term)) for term in self._attended):
            for term in result[-2:]:
                mark_kind(term, HEAD_DIM)
        self._products.append((result, summed))

    def softmax(self, dims: Sequence[Term], dim: int) -> None:
        """A softmax over a dimension of what may be scores."""
        flat = _flat(dims)
        for result, summed in reversed(self._products):
            if _flat(result) == flat:
                self.scores(result[:-2], summed)
                self._attended.append(dims[dim])
                return

    def sampling(self, batch: Term, inner: Term) -> None:
        """Each image of a batch is sampled at places of its own: units among the images are heads that were folded."""
        heads = [axis for axis in axes(batch) if axis.frozen is None]
        if heads:
            self.scores(heads, inner)

    def scores(self, heads: Sequence[Term], *inner: Term) -> None:
        """What attention runs along, and what it sums over or passes on."""
        for term in heads:
            mark_kind(term, HEAD)
        for term in inner:
            mark_kind(term, HEAD_DIM)


def _flat(dims: Sequence[Term]) -> list[Axis]:
    """The axes of several dimensions in order: views that merge or split dimensions do not change it."""
    return [axis for dim in dims for axis in axes(dim) if axis.n > 1]
