"""What a pruned model costs, by exact integer arithmetic on its axes' counts: no model is built.

MACs are the multiply-adds of convolutions, linear layers, matrix products and attention in the first traced call, at
the batch size of its inputs; element-wise work, norms and softmax count nothing. Parameters count once however many
modules share them. Neither says how long the model takes: that is measured, not computed. `secateur.cost.memory`
says what memory is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secateur.cost.memory import Memory
from secateur.cost.parts import Storage
from secateur.cost.size_polynomials import Counts, Products, SizePolynomial
from secateur.terms import Axis


class Cost:
    """Parameters, MACs and memory as functions of the counts of axes. Those of a Graph are its `cost`.

    `parameters`, `macs` and `tensors` (bytes) are sums of products of sizes: (coefficient, terms) each.

    >>> import secateur, torch
    >>> graph = secateur.trace(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)), torch.zeros(1, 4))
    >>> cost = graph.cost
    >>> cost.params(cost.full), cost.macs(cost.full), cost.params(np.array([4]))
    (58, 48, 30)
    """

    KINDS = ("params", "macs", "memory")

    def __init__(
        self,
        axes: Sequence[Axis],
        parameters: Products,
        macs: Products,
        tensors: Products,
        storages: Sequence[Storage],
    ):
        number = {axis: i for i, axis in enumerate(axes)}
        self.full: Counts = np.array([axis.n for axis in axes], dtype=np.int64)
        self.params = SizePolynomial(parameters, number)
        self.macs = SizePolynomial(macs, number)
        self.memory = Memory(tensors, storages, number)

    def of_kind(self, kind: str) -> SizePolynomial | Memory:
        """The cost of one kind."""
        assert kind in self.KINDS, kind
        return getattr(self, kind)


__all__ = ["Cost", "Counts", "SizePolynomial"]
