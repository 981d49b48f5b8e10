"""The cost of a pruned model, by exact integer arithmetic on the counts of its axes: no model is built.

MACs are the multiply-adds of convolutions, linear layers, matrix products and attention in the first traced call, at
the batch size of its inputs; element-wise ops, norms and softmax do not count. A parameter counts once, even if several
modules share it. Neither number predicts how long the model takes: latency must be measured. Memory is defined in
`secateur.cost.memory`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secateur.cost.memory import Memory
from secateur.cost.parts import Storage
from secateur.cost.size_polynomials import Counts, Products, SizePolynomial
from secateur.terms import Axis


class Cost:
    """Parameters, MACs and memory as functions of the counts of axes. `graph.cost` is that of a Graph.

    The attributes `params`, `macs` and `memory` are functions of an integer array with one count per axis; `full` holds
    the counts of the unpruned model.

    Args:
        axes: the axes, in the order of the counts.
        parameters: the number of parameters, as products of sizes: (coefficient, terms) each.
        macs: the multiply-adds of one call, in the same form.
        tensors: the bytes of all parameters and buffers, in the same form.
        storages: the memory that one call allocates, in the order of allocation.

    Example:
        >>> import secateur, torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        >>> cost = secateur.trace(net, torch.zeros(1, 4)).cost
        >>> cost.params(cost.full), cost.macs(cost.full), cost.params(np.array([4]))
        (58, 48, 30)
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        parameters: Products,
        macs: Products,
        tensors: Products,
        storages: Sequence[Storage],
    ):
        self._number = number = {axis: i for i, axis in enumerate(axes)}
        self.full: Counts = np.array([axis.n for axis in axes], dtype=np.int64)
        self.params = SizePolynomial(parameters, number)
        self.macs = SizePolynomial(macs, number)
        self.memory = Memory(tensors, storages, number)

    def sum_of(self, products: Products) -> SizePolynomial:
        """Return another sum of products of sizes over the same axes: (coefficient, terms) each."""
        return SizePolynomial(products, self._number)


__all__ = ["Cost", "Counts", "SizePolynomial"]
