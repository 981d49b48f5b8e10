"""What masks make entirely zero can be cut: the law, on every network of the table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import laws
import secateur
from nets import NETS, Parts
from secateur.anatomy.masked import worn
from secateur.masks import mask, masks_of
from secateur.masks.dead import dead
from zeroing import difference, silence

CUT = [name for name, net in NETS.items() if net.axes and name != "weights_in_a_list"]  # these are refused


def masked(name: str) -> nn.Module:
    """A network of the table with random weights, half of which are masked, and whole units of every axis too."""
    net = NETS[name]
    model = laws.randomized(net.make())
    mask(model, 0.5, criterion="random", scope="layer")
    graph = secateur.trace(model, net.example())
    for axis in graph.axes:
        silence(graph, axis, sorted({1 % axis.size, axis.size // 2}))
    return model


@pytest.mark.parametrize("name", CUT)
def test_cutting_what_is_dead_changes_nothing(name: str) -> None:
    model, inputs = masked(name), NETS[name].example()
    plan = masks_of(model).plan(inputs)
    small = secateur.cut(model, plan)
    assert difference(model, small, inputs) < 1e-9
    assert worn(small).keys() == worn(model).keys()


FOUND = ["plain_cnn", "residual", "dense", "depthwise", "transposed", "gated", "c2f", "squeeze_excite", "lstm", "gru"]


@pytest.mark.parametrize("name", FOUND)
def test_units_that_nothing_reads_are_found(name: str) -> None:
    model = masked(name)
    graph = secateur.trace(model, NETS[name].example())
    found = dead(graph)
    exact = [axis for axis in graph.axes if axis.inexact is None]
    assert exact
    for axis in exact:
        assert {1 % axis.size, axis.size // 2} <= set(found[axis.name]) or axis.size - len(
            found[axis.name]
        ) <= axis.least


def test_a_unit_that_is_read_is_not_dead_and_the_check_can_fail() -> None:
    model, inputs = masked("plain_cnn"), NETS["plain_cnn"].example()
    graph = secateur.trace(model, inputs)
    assert dead(graph) == {"conv1": [1, 4], "conv2": [1, 6]}
    wrong = secateur.cut(model, secateur.plan(graph, drop={"conv1": [0]}))
    assert difference(model, wrong, inputs) > 1e-3


def chain(between: nn.Module, bias: bool = True) -> Any:
    """Three linear layers of four units, with the same between them."""
    torch.manual_seed(0)
    layers = (nn.Linear(3, 4, bias=bias), between, nn.Linear(4, 4, bias=bias), between, nn.Linear(4, 2))
    return nn.Sequential(*layers).double()


def found_in(model: nn.Module, *shape: int) -> dict[str, list[int]]:
    inputs = torch.randn(2, *(shape or (3,)), dtype=torch.float64)
    found = dead(secateur.trace(model, inputs))
    if found:
        plan = secateur.plan(secateur.trace(model, inputs), drop=found)
        assert difference(model, secateur.cut(model, plan), inputs) < 1e-9
    return found


@pytest.mark.parametrize(("between", "keeps"), [(nn.ReLU(), True), (nn.GELU(), True), (nn.Sigmoid(), False)])
def test_a_unit_without_weights_is_dead_where_zero_stays_zero(between: nn.Module, keeps: bool) -> None:
    model = chain(between)
    model[0].weight.data[1] = 0
    assert found_in(model) == {}, "its bias is still there"
    model[0].bias.data[1] = 0
    assert found_in(model) == ({"0": [1]} if keeps else {})


def test_what_only_dead_units_read_is_dead_too() -> None:
    model = chain(nn.Sigmoid())
    model[4].weight.data[:, 2] = 0  # nothing reads unit 2 of the second layer,
    model[2].weight.data[[0, 1, 3], 3] = 0  # which alone reads unit 3 of the first
    assert found_in(model) == {"0": [3], "2": [2]}
    model[2].weight.data[0, 3] = 1
    assert found_in(model) == {"2": [2]}


def test_a_norm_gives_a_unit_without_weights_a_value() -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(
        nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)
    ).double()
    norm = model[1].eval()
    nn.init.uniform_(norm.bias)
    nn.init.uniform_(norm.running_mean)
    model[0].weight.data[:2] = 0
    norm.bias.data[1] = norm.running_mean.data[1] = 0
    norm.weight.data[2] = norm.bias.data[2] = 0
    assert found_in(model.eval(), 3, 4, 4) == {"0": [1, 2]}
    model[3].weight.data[:, 0] = 0
    assert found_in(model.eval(), 3, 4, 4) == {"0": [0, 1, 2]}


def test_units_under_a_layer_norm_stay() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)).double()
    model[0].weight.data[1] = model[0].bias.data[1] = model[2].weight.data[:, 1] = 0
    assert found_in(model) == {}


def test_a_unit_that_is_also_read_without_a_weight_is_alive() -> None:
    def run(self: Any, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x)
        return self.b(y) + (y @ y.transpose(-1, -2)).sum(-1, keepdim=True)

    model: Any = Parts(run, a=nn.Linear(3, 4), b=nn.Linear(4, 2)).double()
    model.b.weight.data[:, 1] = 0
    assert found_in(model, 5, 3) == {}
    model.a.weight.data[1] = model.a.bias.data[1] = 0
    assert found_in(model, 5, 3) == {"a": [1]}


def test_a_layer_that_is_all_dead_keeps_a_unit() -> None:
    model = chain(nn.ReLU())
    model[2].weight.data[:] = 0
    assert [len(units) for units in found_in(model).values()] == [3]


def test_tied_axes_lose_as_many_each() -> None:
    rnn = nn.LSTM(3, 4, num_layers=2)
    model: Any = Parts(lambda self, x: self.out(self.rnn(x)[0]), rnn=rnn, out=nn.Linear(4, 2)).double()
    for weight, units in ((rnn.weight_hh_l0, [0, 1]), (rnn.weight_ih_l1, [0, 1]), (rnn.weight_hh_l1, [2])):
        weight.data[:, units] = 0
    model.out.weight.data[:, 2] = 0
    assert found_in(model, 5, 3) == {"rnn.weight_ih_l0": [0], "rnn.weight_ih_l1": [2]}


def test_where_nothing_is_dead_the_plan_is_empty() -> None:
    model = NETS["plain_cnn"].make()
    plan = mask(model, 0.1).plan(NETS["plain_cnn"].example())
    assert plan.is_empty


def test_hardened_zeros_are_as_good_as_masks() -> None:
    model = masked("residual")
    graph = secateur.trace(model, NETS["residual"].example())
    wanted = masks_of(model).dead(graph)
    masks_of(model).harden()
    assert dead(secateur.trace(model, NETS["residual"].example())) == wanted


@pytest.mark.parametrize(
    ("between", "keeps"), [(nn.Hardtanh(), True), (nn.ReLU6(), True), (nn.Hardtanh(0.2, 1.0), False)]
)
def test_a_clamp_away_from_zero_is_no_zero(between: nn.Module, keeps: bool) -> None:
    model = chain(between, bias=False)
    model[0].weight.data[1] = 0
    assert found_in(model) == ({"0": [1]} if keeps else {})


class Divided(nn.Module):
    """x: (b, 3) -> (b, 2), by way of four units times a norm over them"""

    def __init__(self, order: float) -> None:
        super().__init__()
        self.first, self.last, self.order = nn.Linear(3, 4, bias=False), nn.Linear(4, 2), order

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.last(x * x.norm(p=self.order, dim=-1, keepdim=True))


@pytest.mark.parametrize(("order", "keeps"), [(2.0, True), (float("-inf"), False)])
def test_a_norm_of_the_smallest_sees_zeros(order: float, keeps: bool) -> None:
    model = Divided(order).double()
    model.first.weight.data[1] = 0
    assert found_in(model) == ({"first": [1]} if keeps else {})


class Between(nn.Module):
    """Any function between two layers: x: (n, t, 3) -> (n, t, 2), units last."""

    def __init__(self, function: Any):
        super().__init__()
        self.first, self.last, self.function = nn.Linear(3, 4, bias=False), nn.Linear(4, 2), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.function(self.first(x)))


ONE = torch.ones((), dtype=torch.float64)
KEEP: dict[str, Any] = {
    "abs": torch.abs,
    "cumsum": lambda x: x.cumsum(1),
    "expm1": torch.expm1,
    "largest": lambda x: x.amax(1, keepdim=True) * x,
    "norm": lambda x: x.norm(dim=1, keepdim=True).expand_as(x),
    "power": lambda x: x**2,
    "sin": torch.sin,
    "standardised": lambda x: (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-5).sqrt(),
    "tanh": torch.tanh,
}
LOSE: dict[str, Any] = {
    "added": lambda x: x + 1,
    "all": lambda x: (x == 0).all(1, keepdim=True).to(x).expand_as(x),
    "argmax": lambda x: x.argmax(1, keepdim=True).to(x).expand_as(x),
    "arc tangent": lambda x: torch.atan2(ONE, x),
    "bucketize": lambda x: torch.bucketize(x, torch.tensor([-1.0, -0.5]).to(x)).to(x),
    "compared": lambda x: (x >= 0).to(x),
    "copied sign": lambda x: torch.copysign(ONE, x),
    "cos": torch.cos,
    "distance": lambda x: torch.hypot(x, ONE),
    "filled": lambda x: x.masked_fill(x == 0, 5.0),
    "floor": lambda x: (x + 1.5).floor(),
    "log-cumsum-exp": lambda x: x.logcumsumexp(1),
    "log-sum-exp": lambda x: x.logsumexp(1, keepdim=True).expand_as(x),
    "maximum": lambda x: torch.maximum(x, ONE),
    "no power": lambda x: x**0,
    "padded": lambda x: torch.nn.functional.pad(x, (0, 0, 1, 1), value=2.0)[:, :-2],
    "reciprocal": lambda x: 1 / (x.abs() + 1),
    "scattered": lambda x: x.index_fill(1, torch.tensor([0]), 3.0),
    "softmax": lambda x: x.softmax(1),
    "threshold": lambda x: torch.nn.functional.threshold(x, 0.5, 5.0),
    "where": lambda x: torch.where(x == 0, ONE, x),
}


@pytest.mark.parametrize("name", [*KEEP, *LOSE])
def test_a_zero_is_followed_through_functions(name: str) -> None:
    torch.manual_seed(0)
    model: Any = Between((KEEP | LOSE)[name]).double()
    model.first.weight.data[1] = 0
    assert found_in(model, 5, 3) == ({"first": [1]} if name in KEEP else {})


def test_a_model_without_axes_has_the_empty_plan() -> None:
    assert mask(nn.Linear(4, 8), 0.5).plan(torch.zeros(1, 4)).is_empty
