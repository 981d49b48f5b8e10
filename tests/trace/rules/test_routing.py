"""Grouped products: float32 kernels without a float64 or meta form, which ask for aligned rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import laws
import secateur
from nets import Parts, experts, routed

TOKENS = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))


def grouped() -> nn.Module:
    """Tokens are sorted by their experts, and multiplied group by group."""

    def run(self: Any, x: Tensor) -> Tensor:
        x, weight, chosen = routed(self, x)
        numbers, order = chosen.reshape(-1).sort()
        counts = torch.histc(numbers.float(), bins=self.experts, min=0, max=self.experts - 1)
        ends = counts.cumsum(0, dtype=torch.int32)
        h = F.grouped_mm(x[order // self.best], self.up.transpose(1, 2), offs=ends).relu()
        y = F.grouped_mm(h, self.down.transpose(1, 2), offs=ends) * weight.reshape(-1)[order][:, None]
        return self.fc(torch.zeros_like(x).index_add(0, order // self.best, y))

    torch.manual_seed(0)
    return laws.randomized(experts(run))


def test_whole_experts_go_and_rows_stay_aligned() -> None:
    model = grouped()
    result = secateur.prune(model, TOKENS, "channels=0.7", importance="random", verify=True)
    assert {a.name: a.size for a in result.graph.axes} == {"up[0]": 4, "up[1]": 8, "down": 12}
    assert {name: axis.kept_count for name, axis in result.plan.axes.items()} == {"up[0]": 2, "up[1]": 4, "down": 8}
    assert result.model(TOKENS).shape == (10, 5)
    laws.check_cost(result.model, result.plan, TOKENS)


def test_a_width_that_is_not_aligned_is_refused() -> None:
    graph = secateur.trace(grouped(), TOKENS)
    with pytest.raises(secateur.InputError, match=r"5, but a kernel requires multiples of 4 there\n.* are 4 and 8"):
        secateur.plan(graph, select=secateur.Select(widths={"up[1]": 5}))


def test_a_drop_that_leaves_no_aligned_count_is_refused() -> None:
    graph = secateur.trace(grouped(), TOKENS)
    with pytest.raises(secateur.InputError, match=r"drop leaves 7 of 8 units of 'up\[1\]'; .* a multiple of 4 there"):
        secateur.plan(graph, drop={"up[1]": [3]})


@pytest.mark.parametrize("pick", [lambda y: y.argmax(1), lambda y: y.argmax(1).reshape(-1), lambda y: y.topk(2, 1)])
def test_units_whose_numbers_are_returned_stay(pick: Any) -> None:
    model = Parts(lambda self, x: pick(self.fc(self.up(x).relu())), up=nn.Linear(6, 8), fc=nn.Linear(8, 5))
    graph = secateur.trace(laws.randomized(model), TOKENS)
    assert {axis.name for axis in graph.axes} == {"up"}
    assert "the model returns the numbers of selected units" in str(graph)
