"""Graph networks: messages are read from nodes and summed at nodes, by indices that are given as data."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets.parts import Parts
from nets.table import net

NODES = (7, 6)
EDGES = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 0, 3, 3], [1, 2, 0, 3, 6, 5, 4, 4, 1, 0]])


def _summed(messages: Tensor, at: Tensor, nodes: int) -> Tensor:
    """As torch_geometric does: the index is expanded to the shape of the messages."""
    index = at.view([-1] + [1] * (messages.dim() - 1)).expand_as(messages)
    return messages.new_zeros((nodes, *messages.shape[1:])).scatter_add_(0, index, messages)


@net(
    "summed_messages",
    [NODES, EDGES],
    axes={"a": 8, "b": 10},
    params=(6 * 8 + 8) + (8 * 10 + 10) + (10 * 4 + 4),
    macs=7 * (6 * 8 + 8 * 10 + 10 * 4),
)
def summed_messages() -> nn.Module:
    def run(self: Any, x: Tensor, edges: Tensor) -> Tensor:
        for layer in (self.a, self.b):
            x = _summed(layer(x).index_select(0, edges[0]), edges[1], x.shape[0]).relu()
        return self.out(x)

    return Parts(run, a=nn.Linear(6, 8), b=nn.Linear(8, 10), out=nn.Linear(10, 4))


@net(
    "attended_messages",
    [NODES, EDGES],
    axes={"a[0]": 3, "a[1]": 4},
    params=(6 * 12 + 12) + 3 * 4 + (12 * 5 + 5),
    macs=7 * (6 * 12 + 12 * 5),
)
def attended_messages() -> nn.Module:
    def run(self: Any, x: Tensor, edges: Tensor) -> Tensor:
        values = self.a(x).view(-1, self.heads, self.dim).index_select(0, edges[0])
        weights = F.leaky_relu((values * self.score).sum(-1)).exp()
        weights = weights / _summed(weights, edges[1], x.shape[0]).index_select(0, edges[1])
        return self.out(_summed(values * weights.unsqueeze(-1), edges[1], x.shape[0]).flatten(1).relu())

    score = nn.Parameter(torch.randn(3, 4))
    return Parts(run, heads=3, dim=4, a=nn.Linear(6, 12), score=score, out=nn.Linear(12, 5))


@net(
    "blocks_of_relations",
    [NODES],
    axes={"a[0]": 4, "a[1]": 3, "weight": 5},
    params=(6 * 12 + 12) + 4 * 3 * 5 + (20 * 5 + 5),
    macs=7 * (6 * 12 + 4 * 3 * 5 + 20 * 5),
)
def blocks_of_relations() -> nn.Module:
    """The blocks of a relational graph convolution: two units stay of those that are summed."""

    def run(self: Any, x: Tensor) -> Tensor:
        blocks = torch.einsum("nbi,bio->nbo", self.a(x).relu().view(-1, *self.weight.shape[:2]), self.weight)
        return self.out(blocks.relu().flatten(1))

    return Parts(run, a=nn.Linear(6, 12), weight=nn.Parameter(torch.randn(4, 3, 5)), out=nn.Linear(20, 5))
