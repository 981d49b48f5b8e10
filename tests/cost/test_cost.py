from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop

import secateur
from nets import NETS, graph_of
from secateur.cost.size_polynomials import SizePolynomial
from secateur.graph.graph import Graph
from secateur.graph.parts import Group
from secateur.terms import Axis, Term, cat, product, size

CUT = [name for name, net in NETS.items() if net.axes]


def _attention(query: torch.Size, key: torch.Size, value: torch.Size, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop(query, key, value)


def _recurrent(x: torch.Size, w: torch.Size, u: torch.Size, *args: Any, **kwargs: Any) -> int:
    steps, batch, _ = x
    return 2 * steps * batch * (w.numel() + u.numel())


def _bilinear(x: torch.Size, w: torch.Size, *args: Any, **kwargs: Any) -> int:
    return 2 * x[0] * w.numel()


# On CPU torch counts attention, recurrent and bilinear layers as nothing.
UNCOUNTED = {
    torch.ops.aten._trilinear: _bilinear,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten.mkldnn_rnn_layer: _recurrent,
}


def counted(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[int, int]:
    """Parameters, and half of what torch calls a FLOP."""
    with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
        model.eval()(*inputs)
    return sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() // 2


@pytest.mark.parametrize("name", NETS)
def test_the_uncut_model_costs_what_torch_counts(name: str) -> None:
    graph = graph_of(name)
    assert (graph.params, graph.total_macs) == counted(NETS[name].make(), NETS[name].example())


def random_widths(graph: Graph, chance: random.Random) -> dict[str, int]:
    """Two steps or more of each group: torch runs an einsum over a single unit as a product, and counts nothing."""
    steps = {group.axes[0]: chance.randint(_fewest(group), group.steps) for group in graph.groups}
    return {axis.name: axis.size // graph.groups[axis.group].steps * n for axis, n in steps.items()}


def _fewest(group: Group) -> int:
    return min(max(2, *(-(-axis.least * group.steps // axis.size) for axis in group.axes)), group.steps)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CUT)
def test_a_cut_model_costs_what_its_plan_says(name: str, seed: int) -> None:
    net, graph = NETS[name], graph_of(name)
    select = secateur.Select(widths=random_widths(graph, random.Random(seed)))
    plan = secateur.plan(graph, importance="random", select=select)
    assert counted(secateur.cut(net.make(), plan), net.example()) == (plan.after.params, plan.after.macs)


def test_the_count_notices_a_wrong_plan() -> None:
    net, plan = NETS["attention"], secateur.plan(graph_of("attention"), "channels=0.5")
    assert counted(net.make(), net.example()) != (plan.after.params, plan.after.macs)


AXES = [Axis(n) for n in (2, 3, 5)]
NUMBER = {axis: i for i, axis in enumerate(AXES[:2])}  # the third has no number: it is a constant
terms = st.recursive(
    st.sampled_from(AXES),
    lambda inner: st.one_of(st.lists(inner, min_size=1, max_size=3).map(build) for build in (cat, product)),
    max_leaves=5,
)


small = st.integers(1, 9)
Products = list[tuple[int, list[Term]]]


@given(st.lists(st.tuples(small, st.lists(terms, max_size=3)), max_size=5), st.tuples(small, small))
def test_a_form_is_the_sum_of_products_of_sizes(products: Products, counts: tuple[int, int]) -> None:
    by_axis = dict(zip(AXES, counts, strict=False))
    expected = sum(n * math.prod(size(term, by_axis) for term in factors) for n, factors in products)
    assert SizePolynomial(products, NUMBER)(np.array(counts)) == expected


def test_large_counts_do_not_overflow() -> None:
    wide = [Axis(2**20) for _ in range(2)]
    form = SizePolynomial([(2**20, wide)], {axis: i for i, axis in enumerate(wide)})
    assert form(np.array([2**20, 2**20])) == 2**60


def test_a_graph_keeps_its_cost() -> None:
    graph = graph_of("plain_cnn")
    assert graph.cost is graph.cost
    assert (graph.cost.params(graph.cost.full), graph.cost.full.tolist()) == (graph.params, [8, 12])


@pytest.mark.parametrize("name", CUT)
def test_slopes_are_what_one_more_unit_costs(name: str) -> None:
    cost = graph_of(name).cost
    for form in (cost.params, cost.macs):
        for i, slope in enumerate(form.slopes(cost.full)):
            more, less = (cost.full + step * (np.arange(len(cost.full)) == i) for step in (1, -1))
            assert slope == pytest.approx((form(more) - form(less)) / 2)


@given(st.lists(st.tuples(small, st.lists(terms, max_size=3)), max_size=5), st.lists(st.tuples(small, small)))
def test_many_counts_at_once_cost_what_they_cost_one_by_one(products: Products, counts: list[tuple[int, int]]) -> None:
    form, rows = SizePolynomial(products, NUMBER), np.array(counts, dtype=np.int64).reshape(-1, 2)
    assert form.many(rows).tolist() == [form(row) for row in rows]
