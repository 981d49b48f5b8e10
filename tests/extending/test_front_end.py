"""A front-end of another package: it makes a Graph from a description in JSON, and never runs the model."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur
from secateur.cost.parts import MacsTerm
from secateur.graph.assembling import build_graph
from secateur.graph.consumers import Consumer
from secateur.graph.graph import Graph
from secateur.graph.sizes import Attribute
from secateur.terms import Axis

X = torch.zeros(2, 4)
DESCRIPTION = """{
    "batch": 2,
    "sizes": {"inputs": 4, "hidden": 8, "outputs": 3},
    "layers": [{"name": "first", "reads": "inputs", "writes": "hidden"},
               {"name": "last", "reads": "hidden", "writes": "outputs"}]
}"""


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.last(self.first(x).relu())


def described(model: nn.Module, text: str) -> Graph:
    """The front-end: linear layers between named sizes, the first and the last of which stay."""
    said = json.loads(text)
    names = list(said["sizes"])
    ends = {names[0]: "model input", names[-1]: "model output"}
    axes = {name: Axis(n, ends.get(name)) for name, n in said["sizes"].items()}
    dims: dict[str, tuple[Axis, ...]] = {}
    roles, macs, attributes, readers = {}, [], {}, []
    for layer in said["layers"]:
        name, reads, writes = layer["name"], axes[layer["reads"]], axes[layer["writes"]]
        weight, bias = f"{name}.weight", f"{name}.bias"
        dims |= {weight: (writes, reads), bias: (writes,)}
        roles |= {(weight, 0): "output", (weight, 1): "input", (bias, 0): "output"}
        macs.append(MacsTerm(weight, said["batch"], (writes, reads)))
        attributes |= {Attribute(name, "out_features"): writes, Attribute(name, "in_features"): reads}
        readers.append(Consumer(weight, 1, reads, bias))
    return build_graph(model, dims, roles=roles, macs=macs, attributes=attributes, readers=readers)


@pytest.fixture
def model() -> Net:
    return Net()


def test_it_says_what_a_trace_finds(model: Net) -> None:
    graph = described(model, DESCRIPTION)
    assert model.calls == 0
    traced = secateur.trace(model, X)

    def found(graph: Graph) -> Any:
        axes = [(axis.name, axis.size, axis.group, sorted(map(str, axis.sites))) for axis in graph.axes]
        return (
            axes,
            graph.params,
            graph.total_macs,
            graph.frozen,
            graph.coverage,
            graph.macs[0].layer,
            sorted(graph.readers),
        )

    assert found(graph) == found(traced)
    assert "first" in str(graph)
    assert "model output" in str(graph.why("last"))


@pytest.mark.parametrize("target", ["params=0.5", "macs=0.5", "channels=0.5"])
def test_plan_cut_and_cost(model: Net, target: str) -> None:
    graph = described(model, DESCRIPTION)
    plan = secateur.plan(graph, target)
    small = secateur.cut(model, plan)
    assert model.calls == 0
    count = secateur.count(small, X)
    assert (plan.after["params"], plan.after["macs"]) == (count.params, count.macs)
    kept = plan.axes["first"].kept_count
    assert kept == secateur.plan(secateur.trace(Net(), X), target).axes["first"].kept_count < 8
    assert (small.first.out_features, small.last.in_features, small.last.out_features) == (kept, kept, 3)
    assert (small.last.weight.shape, model.last.weight.shape) == ((3, kept), (3, 8))


def test_the_cut_is_proved(model: Net) -> None:
    plan = secateur.plan(described(model, DESCRIPTION), "params=0.5")
    assert secateur.verify(model, secateur.cut(model, plan), plan, X).passed


def test_a_plan_of_it_is_saved_and_read(model: Net) -> None:
    plan = secateur.plan(described(model, DESCRIPTION), "params=0.5")
    assert secateur.Plan.from_json(plan.to_json()) == plan
    again = secateur.cut(Net(), secateur.Plan.from_json(plan.to_json()))
    assert all(map(torch.equal, again.parameters(), secateur.cut(model, plan).parameters()))


def test_what_it_does_not_describe_stays(model: Net) -> None:
    model.further = nn.Linear(5, 5)
    graph = described(model, DESCRIPTION)
    assert {one.reason for one in graph.frozen if one.name == "further.weight"} == {
        "the front-end does not describe it"
    }
    assert secateur.cut(model, secateur.plan(graph, "params=0.8")).further.weight.shape == (5, 5)


def test_data_that_criteria_need_are_collected(model: Net) -> None:
    graph = described(model, DESCRIPTION)
    statistics = secateur.statistics.calibrate(graph, [(torch.randn(16, 4), None)], needs=["moments"])
    plan = secateur.plan(graph, "channels=0.5", importance="wanda", statistics=statistics)
    assert plan.axes["first"].kept_count == 4
