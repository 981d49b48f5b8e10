"""Memory: what is predicted of a plan is what a trace of the cut model finds, whatever it ran on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import secateur
from nets import NETS, graph_of
from secateur import TargetError
from secateur.graph.blocks import without
from secateur.graph.graph import Graph

CUT = [name for name, net in NETS.items() if net.axes]
# A constant tensor of the model's own, copied when it meets a fake one.
CONSTANTS = {"scattered_indices"}
# With one group left, what was a copy to other strides is a view: the prediction counts the copy.
VIEWS = {"group_norm_of_groups"}


@pytest.mark.parametrize("name", CUT)
def test_memory_is_that_of_the_cut_model(name: str) -> None:
    net, plan = NETS[name], secateur.plan(graph_of(name), "channels=0.6")
    traced = secateur.trace(secateur.cut(net.make(), plan), net.example()).memory
    assert plan.after.memory is not None
    assert plan.after.memory >= traced if name in VIEWS else plan.after.memory == traced


@pytest.mark.parametrize("name", [name for name in NETS if name not in CONSTANTS])
def test_all_runs_hold_alike(name: str) -> None:
    net = NETS[name]
    real, fake = (secateur.trace(net.make(), net.example(), run=run).memory for run in ("real", "fake"))
    assert real == fake == graph_of(name).memory


def test_the_peak_of_a_chain_by_hand() -> None:
    """x and both sides of the wider layer live at one time; a view and an in-place op hold nothing."""
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Unflatten(1, (2, 4)), nn.Flatten(), nn.Linear(8, 2))
    weights = 4 * (4 * 8 + 8 + 8 * 2 + 2)
    assert secateur.trace(net, torch.zeros(3, 4)).memory == weights + 4 * 3 * (4 + 8 + 2)


def test_an_activation_that_is_kept_counts_as_long_as_it_is() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 16), nn.Linear(16, 4), nn.Linear(4, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            z = self.c(self.b(y))
            return y + z

    weights = 4 * (4 * 16 + 16 + 16 * 4 + 4 + 4 * 16 + 16)
    assert secateur.trace(Skip(), torch.zeros(1, 4)).memory == weights + 4 * (4 + 3 * 16)


@pytest.mark.parametrize("name", CUT)
def test_many_counts_at_once_hold_what_they_hold_one_by_one(name: str) -> None:
    memory, full = graph_of(name).cost.memory, graph_of(name).cost.full
    rows = [full, (full + 1) // 2]
    assert memory.many(torch.tensor([row.tolist() for row in rows]).numpy()).tolist() == [memory(row) for row in rows]


@pytest.mark.parametrize("name", ["plain_cnn", "residual"])
def test_a_memory_target_is_met(name: str) -> None:
    plan = secateur.plan(graph_of(name), ["memory=0.8", "params=0.9"])
    assert plan.after.memory is not None
    assert plan.before.memory is not None
    assert plan.after.memory <= 0.8 * plan.before.memory


def test_a_plan_without_memory_is_read() -> None:
    plan = secateur.plan(graph_of("plain_cnn"), "channels=0.5")
    totals = f",{plan.before.memory}]", f",{plan.after.memory}]"
    text = plan.to_json().replace(totals[0], "]").replace(totals[1], "]")
    old = secateur.Plan.from_json(text)
    assert (old.after.memory, old.after.params) == (None, plan.after.params)
    assert "memory" not in str(old)


def chain_of_blocks() -> Graph:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 12), nn.Linear(12, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.b(self.a(x).relu())

    return secateur.trace(nn.Sequential(nn.Linear(4, 8), Block(), Block(), nn.Linear(8, 2)), torch.zeros(1, 4))


@pytest.mark.parametrize(("target", "drop"), [("depth=0.5", None), (None, {"1": "all"})])
def test_memory_without_blocks_is_unknown(target: str | None, drop: dict[str, str] | None) -> None:
    graph = chain_of_blocks()
    plan = secateur.plan(graph, target, drop=drop)
    assert (plan.before.memory, plan.after.memory) == (graph.memory, None)
    assert "memory" not in str(plan)
    assert without(graph, plan.removed).memory is None


@pytest.mark.parametrize(("targets", "drop"), [(["depth=0.5", "memory=0.5"], None), (["memory=0.5"], {"2": "all"})])
def test_a_memory_target_is_refused_where_blocks_go(targets: list[str], drop: dict[str, str] | None) -> None:
    message = (
        r"^target memory=0.5: memory is not predicted where whole blocks go \('[12]'\)\n"
        r"drop the blocks first, then trace and plan what is left$"
    )
    with pytest.raises(TargetError, match=message):
        secateur.plan(chain_of_blocks(), targets, drop=drop)


def test_what_is_left_without_blocks_can_be_planned() -> None:
    graph = chain_of_blocks()
    small = secateur.cut(graph.model, secateur.plan(graph, drop={"2": "all"}))
    plan = secateur.plan(secateur.trace(small, torch.zeros(1, 4)), "memory=0.8")
    assert secateur.trace(secateur.cut(small, plan), torch.zeros(1, 4)).memory == plan.after.memory


MODELS = [
    *("resnet18", "mobilenet_v3_small"),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("vit_b_32", "densenet121", "swin_t", "convnext_tiny")),
]


@pytest.mark.parametrize("name", MODELS)
def test_memory_of_torchvision_models(name: str) -> None:
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed (extra vision)")
    options = {"image_size": 64} if name.startswith("vit") else {}
    model, x = torchvision.models.get_model(name, weights=None, **options).eval(), torch.zeros(1, 3, 64, 64)
    graph = secateur.trace(model, x)
    for target in ("channels=0.6", "memory=0.5"):
        plan = secateur.plan(graph, target)
        assert secateur.trace(secateur.cut(model, plan), x).memory == plan.after.memory
