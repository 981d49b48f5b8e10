"""What a pruned model costs, by exact integer arithmetic on its axes' counts: no model is built.

MACs are the multiply-adds of convolutions, linear layers, matrix products and attention in the first traced call, at
the batch size of its inputs; element-wise work, norms and softmax count nothing. Parameters count once however many
modules share them. Neither says how long the model takes: that is measured, not computed. `secateur.memory` says what
memory is.
"""

from __future__ import annotations

import numpy as np

from .form import Counts, Form
from .graph import Graph
from .memory import Memory


class Cost:
    """Parameters and MACs of a graph's plans as functions of the counts of its axes, in the order of `graph.axes`.

    >>> import secateur, torch
    >>> graph = secateur.trace(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)), torch.zeros(1, 4))
    >>> cost = Cost.of(graph)
    >>> cost.params(cost.full), cost.macs(cost.full), cost.params(np.array([4]))
    (58, 48, 30)
    """

    KINDS = ("params", "macs", "memory")

    def __init__(self, graph: Graph):
        number = {axis.term: i for i, axis in enumerate(graph.axes)}
        self.full: Counts = np.array([axis.size for axis in graph.axes], dtype=np.int64)
        parameters = [(1, site.dims) for site in graph.sites.values() if site.kind == "parameter"]
        self.params = Form(parameters, number)
        self.macs = Form([(m.coefficient, m.terms) for m in graph.macs], number)
        self.memory = Memory(list(graph.sites.values()), graph.storages, number)

    def of_kind(self, kind: str) -> Form | Memory:
        """The cost of one kind."""
        assert kind in self.KINDS, kind
        return getattr(self, kind)

    @staticmethod
    def of(graph: Graph) -> Cost:
        """The cost functions of a graph, laid out once and kept with it."""
        kept = graph.__dict__  # a frozen dataclass refuses setattr, and this is no part of its value
        if "_cost" not in kept:
            kept["_cost"] = Cost(graph)
        return kept["_cost"]


__all__ = ["Cost", "Counts", "Form"]
