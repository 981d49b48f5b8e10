"""Laws of all penalties: the hook adds what autograd finds, on prunable axes and nowhere else."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from nets import NETS
from secateur import train
from secateur.errors import InputError, PruningError
from secateur.graph.graph import Graph
from secateur.importance.slices import slices_of
from secateur.train.packing import pack, unpack
from secateur.train.penalties import PENALTIES, GroupLasso, GrowingL2, Penalty, ScaleHistory, ScaleL1, total

IMAGE = torch.zeros(1, 3, 8, 8)
ROLES = ("output", "input", "scale", "shift")


def growing(graph: Graph, strength: float) -> GrowingL2:
    plan = secateur.plan(graph, "channels=0.6", importance="random")
    return GrowingL2(graph, plan, delta=strength, ceiling=strength)


def several(graph: Graph, strength: float) -> Penalty:
    return total(GroupLasso(graph, strength), growing(graph, 2 * strength))


MAKE: dict[str, Callable[[Graph, float], Penalty]] = {**PENALTIES, "growing_l2": growing, "total": several}


def cnn() -> nn.Module:
    torch.manual_seed(0)
    conv = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1)]
    return nn.Sequential(*conv, nn.BatchNorm2d(12), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5))


def traced(net: nn.Module) -> Graph:
    return secateur.trace(net, IMAGE)


def gradients(net: nn.Module) -> dict[str, Tensor | None]:
    return {name: p.grad for name, p in net.named_parameters()}


def by_autograd(penalty: Penalty, net: nn.Module) -> dict[str, Tensor | None]:
    parameters = dict(net.named_parameters())
    found = torch.autograd.grad(penalty(), list(parameters.values()), allow_unused=True)
    return dict(zip(parameters, found, strict=True))


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("net_name", NETS)
def test_the_hook_adds_what_autograd_finds(name: str, net_name: str) -> None:
    net = NETS[net_name].make()
    graph = secateur.trace(net, NETS[net_name].example())
    net.double()
    if not graph.axes or (name == "scale_l1" and not any(s.has("scale") for s in slices_of(graph))):
        with pytest.raises(InputError, match=r"no norm scales|has no prunable axis|no axis to act on"):
            MAKE[name](graph, 0.3)
        return
    penalty = MAKE[name](graph, 0.3)
    expected = by_autograd(penalty, net)
    penalty.add_gradients_()
    for name, gradient in gradients(net).items():
        wanted = expected[name]
        assert (gradient is None) == (wanted is None), name
        if wanted is not None:
            torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-12, msg=name)
    assert any(wanted is not None and bool(wanted.any()) for wanted in expected.values())


@pytest.mark.parametrize("name", MAKE)
def test_what_is_frozen_or_kept_has_no_gradient(name: str) -> None:
    net = cnn()
    net[4].weight.requires_grad_(False)
    MAKE[name](traced(net), 0.3).add_gradients_()
    assert net[4].weight.grad is None
    assert net[8].bias.grad is None  # classes
    for layer in (net[0], net[3]):
        assert layer.weight.grad is None or bool(layer.weight.grad.any())


@pytest.mark.parametrize("name", MAKE)
def test_a_zero_has_no_gradient(name: str) -> None:
    net = cnn()
    penalty = MAKE[name](traced(net), 0.3)
    for p in net.parameters():
        nn.init.zeros_(p)
    assert all(g is None or not bool(g.any()) for g in by_autograd(penalty, net).values())
    penalty.add_gradients_()
    assert all(g is None or not bool(g.any()) for g in gradients(net).values())


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_a_step_with_the_hook_is_a_step_with_the_term(name: str, make: Any) -> None:
    nets = [cnn().double(), cnn().double()]
    x, y = torch.randn(6, 3, 8, 8, dtype=torch.float64), torch.arange(6) % 5
    for net, hooked in zip(nets, (True, False), strict=True):
        penalty, optimizer = MAKE[name](traced(net.float()), 0.1), make(net.double().parameters(), lr=0.01)
        if hooked:
            penalty.attach(optimizer)
        for _ in range(3):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            (loss if hooked else loss + penalty()).backward()
            optimizer.step()
            if not hooked:
                penalty.step()
        assert penalty.steps == 3 or name == "total"
    torch.testing.assert_close([*nets[0].parameters()], [*nets[1].parameters()], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", MAKE)
def test_gradients_are_added_to(name: str) -> None:
    net = cnn()
    penalty = MAKE[name](traced(net), 0.3)
    expected = by_autograd(penalty, net)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    penalty.add_gradients_(factor=2.0)
    for name, gradient in gradients(net).items():
        wanted = expected[name]
        torch.testing.assert_close(gradient, torch.tensor(1.0) + (0 * gradient if wanted is None else 2 * wanted))


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision(name: str, dtype: torch.dtype) -> None:
    net = cnn()
    graph = traced(net)
    penalty = MAKE[name](graph, 0.3)
    wanted = by_autograd(penalty, net)
    net.to(dtype)
    penalty.add_gradients_()
    for name, gradient in gradients(net).items():
        if gradient is not None:
            torch.testing.assert_close(gradient.float(), wanted[name], rtol=0.05, atol=0.01)


@pytest.mark.parametrize("name", ["plain_cnn", "residual", "gated", "grouped_queries", "attention", "depthwise"])
def test_group_lasso_is_its_formula(name: str) -> None:
    net = NETS[name].make()
    graph = secateur.trace(net, NETS[name].example())
    wanted = 0.0
    for axis in slices_of(graph):
        squares = sum(axis.unit_sum(role, lambda _, w: w.square()) for role in ROLES)
        sizes = sum(axis.unit_sum(role, lambda _, w: torch.ones_like(w)) for role in ROLES)
        wanted += float((sizes.sqrt() * squares.sqrt()).sum())  # type: ignore[union-attr]
    assert GroupLasso(graph, 0.5)().item() == pytest.approx(0.5 * wanted, rel=1e-5)


def test_group_lasso_pulls_along_the_unit() -> None:
    """All that belongs to a unit shrinks by the same share, so that it gets to zero together."""
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    GroupLasso(secateur.trace(net, torch.zeros(1, 4)), 0.5).add_gradients_()
    for unit in range(8):
        w = torch.cat([net[0].weight[unit], net[0].bias[unit, None], net[2].weight[:, unit]]).detach()
        g = torch.cat([net[0].weight.grad[unit], net[0].bias.grad[unit, None], net[2].weight.grad[:, unit]])
        torch.testing.assert_close(g, 0.5 * math.sqrt(8) * w / w.norm())


def test_scale_l1_is_lambda_times_the_sign() -> None:
    net = cnn()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([1.0, -1.0, 0.0, 2.0, -3.0, 0.5, 0.0, -0.1]))
    ScaleL1(traced(net), 0.01).add_gradients_()
    torch.testing.assert_close(net[1].weight.grad, 0.01 * torch.tensor([1.0, -1.0, 0.0, 1.0, -1.0, 1.0, 0.0, -1.0]))
    assert [name for name, g in gradients(net).items() if g is not None] == ["1.weight", "4.weight"]


def test_scales_that_lie_on_several_axes() -> None:
    """A norm behind a concatenation: only the part that may be cut is pulled."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 6, 1)
            self.norm, self.c = nn.BatchNorm2d(10), nn.Conv2d(10, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.norm(torch.cat([self.a(x), self.b(x)], 1)))

    net = Net()
    ScaleL1(traced(net), 1.0, select=secateur.Select(only="b")).add_gradients_()
    assert net.norm.weight.grad.tolist() == [0.0] * 4 + [1.0] * 6


def test_slimming_separates_what_is_needed() -> None:
    """Few of sixteen units are needed to copy one input: most scales end near zero, some far from it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Linear(16, 1, bias=False))
    graph = secateur.trace(net.eval(), torch.zeros(2, 4))
    history, optimizer = ScaleHistory(graph), torch.optim.SGD(net.train().parameters(), lr=0.05, weight_decay=1e-3)
    ScaleL1(graph, 0.1).attach(optimizer)
    history.record(0)
    for _ in range(300):
        x = torch.randn(64, 4)
        optimizer.zero_grad()
        F.mse_loss(net(x), x[:, :1]).backward()
        optimizer.step()
    history.record(300)
    first, last = history.as_dict()["axes"]["0"]
    assert min(first) == 1.0
    assert sum(scale < 0.01 for scale in last) >= 10
    assert max(last) > 0.2


def test_growing_l2_grows_and_drops_nothing_else() -> None:
    net = cnn()
    for p in net.parameters():
        nn.init.normal_(p)
    graph = traced(net)
    plan = secateur.plan(graph, "channels=0.5")
    penalty = GrowingL2(graph, plan, delta=0.1, every=3, ceiling=0.25)
    seen = []
    for _ in range(8):
        seen.append(round(penalty.strength, 6))
        penalty.step()
    assert seen == [0.1] * 3 + [0.2] * 3 + [0.25] * 2
    assert penalty.grown
    penalty.add_gradients_()
    small, gone = secateur.cut(net, plan), 0
    for name, p in net.named_parameters():
        kept = math.prod(small.get_parameter(name).shape)
        moved = 0 if p.grad is None else int((p.grad != 0).sum())
        assert moved == p.numel() - kept, name
        gone += moved
    assert gone == plan.before.params - plan.after.params


def test_growing_l2_makes_the_cut_harmless() -> None:
    """A bias of a norm keeps nothing alive: all of a unit is pulled to zero."""
    net, x = cnn().double(), torch.randn(4, 3, 8, 8, dtype=torch.float64)
    graph = traced(net.float())
    plan = secateur.plan(graph, "channels=0.5")
    net.double().eval()
    penalty = GrowingL2(graph, plan, delta=0.1, every=10, ceiling=0.5)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    penalty.attach(optimizer)
    for _ in range(200):
        optimizer.zero_grad()
        optimizer.step()
    torch.testing.assert_close(secateur.cut(net, plan)(x), net(x), rtol=0, atol=1e-9)


def test_growing_l2_reaches_blocks_that_go() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.a(x).relu()

    net = nn.Sequential(nn.Linear(4, 8), Block(), Block(), nn.Linear(8, 2))
    graph = secateur.trace(net, torch.zeros(1, 4))
    GrowingL2(graph, secateur.plan(graph, drop={"1": "all"}), delta=0.1).add_gradients_()
    torch.testing.assert_close(net[1].a.weight.grad, 0.1 * net[1].a.weight)
    assert net[2].a.weight.grad is None


def test_selections_restrict_the_axes() -> None:
    for select, names in [
        (secateur.Select(protect="0"), {"0.weight": False, "3.weight": True}),
        (secateur.Select(only="0"), {"0.weight": True, "8.weight": False}),
        ("3: prune=heads", None),
    ]:
        net = cnn()
        if names is None:
            with pytest.raises(InputError, match="matches no head that can be cut"):
                GroupLasso(traced(net), 0.1, select=select)
            continue
        GroupLasso(traced(net), 0.1, select=select).add_gradients_()
        assert {name: net.get_parameter(name).grad is not None for name in names} == names


def test_a_handle_removes_the_hook() -> None:
    net = cnn()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    handle = ScaleL1(traced(net), 0.25).attach(optimizer)
    optimizer.step()
    assert net[1].weight.tolist() == [0.75] * 8
    handle.remove()
    optimizer.zero_grad()
    optimizer.step()
    assert net[1].weight.tolist() == [0.75] * 8


def test_a_wrapped_optimizer() -> None:
    class Wrapper:
        def __init__(self, optimizer: torch.optim.Optimizer):
            self.optimizer = optimizer

    net = cnn()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    ScaleL1(traced(net), 0.25).attach(Wrapper(optimizer))
    optimizer.step()
    assert net[1].weight.tolist() == [0.75] * 8


class Slow(torch.optim.Optimizer):
    """Steps with another, and calls no hooks itself, as Lookahead of timm."""

    def __init__(self, inner: torch.optim.Optimizer | None):
        self.inner, self.defaults = inner, {}
        self.param_groups, self.state = (inner.param_groups, inner.state) if inner else ([], {})  # type: ignore[assignment]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert self.inner is not None
        self.inner.step(closure)


def test_an_optimizer_that_calls_no_hooks() -> None:
    net = cnn()
    graph, optimizer = traced(net), Slow(torch.optim.SGD(net.parameters(), lr=1.0))
    history = ScaleHistory(graph)
    history.attach(optimizer)
    ScaleL1(graph, 0.25).attach(optimizer)
    optimizer.step()
    assert net[1].weight.tolist() == [0.75] * 8
    assert history.steps == [0, 1]
    with pytest.raises(InputError, match=r"Slow calls no hooks in its step\(\)[^\n]*\ncall add_gradients_\(\) before"):
        ScaleL1(graph, 0.25).attach(Slow(None))


@pytest.mark.parametrize("name", MAKE)
def test_two_optimizers_pull_as_one(name: str) -> None:
    """Matrices in one and the rest in another, say: each adds to what it holds, and a step of both is one step."""
    nets, start = [cnn().double(), cnn().double()], cnn().double()
    for net, several in zip(nets, (True, False), strict=True):
        penalty = MAKE[name](traced(net.float()), 0.01)
        own = list(net.double().parameters())
        parts = [[p for p in own if p.dim() > 1], [p for p in own if p.dim() == 1]] if several else [own]
        optimizers = [torch.optim.SGD(part, lr=0.1) for part in parts]
        for optimizer in optimizers:
            if any(p is held.parameter for held in penalty.held for p in optimizer.param_groups[0]["params"]):
                penalty.attach(optimizer)
        for _ in range(3):
            for optimizer in optimizers:
                optimizer.step()
            net.zero_grad()
        assert penalty.steps == 3 or name == "total"
        assert all(part.steps == 3 for part in getattr(penalty, "parts", ()))
    ways = [[p - first for p, first in zip(net.parameters(), start.parameters(), strict=True)] for net in nets]
    torch.testing.assert_close(*ways, rtol=0.1, atol=1e-12)  # the second sees what the first has moved


@pytest.mark.parametrize("name", MAKE)
def test_what_the_optimizer_does_not_hold_keeps_its_gradient(name: str) -> None:
    net = cnn()
    penalty, ones = MAKE[name](traced(net), 0.1), torch.ones_like(net[4].weight)
    net[4].weight.grad = ones
    optimizer = torch.optim.SGD(net[:4].parameters(), lr=0.1)
    penalty.attach(optimizer)
    optimizer.step()
    assert net[4].weight.grad is ones
    assert torch.equal(ones, torch.ones_like(ones))
    assert net[1].weight.grad is not None


@pytest.mark.parametrize("name", MAKE)
def test_what_is_frozen_later_has_no_gradient(name: str) -> None:
    net = cnn()
    penalty = MAKE[name](traced(net), 0.3)
    net[4].requires_grad_(False)
    penalty.add_gradients_()
    assert net[4].weight.grad is None
    assert net[1].weight.grad is not None


def test_scaled_gradients_of_a_fused_optimizer() -> None:
    net = cnn()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0, fused=True)
    ScaleL1(traced(net), 0.25).attach(optimizer)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(8.0), torch.tensor(0.0)  # type: ignore[attr-defined]
    optimizer.step()
    assert net[1].weight.tolist() == [0.75] * 8


def test_what_a_hook_refuses() -> None:
    net = cnn()
    graph = traced(net)
    penalty = GroupLasso(graph, 0.1)
    with pytest.raises(InputError, match="none of the parameters that GroupLasso acts on is in this optimizer"):
        penalty.attach(torch.optim.SGD(cnn().parameters(), lr=1.0))
    with pytest.raises(InputError, match=r"optimizer is a Linear; a penalty is attached to a torch.optim.Optimizer"):
        penalty.attach(nn.Linear(1, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    penalty.attach(optimizer)
    with pytest.raises(InputError, match=r"optimizer.step\(closure\) computes gradients after this hook"):
        optimizer.step(lambda: 0.0)
    with pytest.raises(InputError, match="closure"):
        optimizer.step(closure=lambda: 0.0)


@pytest.mark.parametrize("name", MAKE)
def test_a_model_that_was_cut_since_is_noticed(name: str) -> None:
    net = cnn()
    graph = traced(net)
    penalty = MAKE[name](graph, 0.1)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    penalty.attach(optimizer)
    secateur.cut_(net, secateur.plan(graph, "channels=0.5"))
    with pytest.raises(PruningError, match=r"was of shape .* when the penalty was made, and is of shape"):
        penalty()
    with pytest.raises(PruningError, match="was of shape"):
        optimizer.step()
    other = cnn()
    penalty = MAKE[name](traced(other), 0.1)
    optimizer = torch.optim.SGD(other.parameters(), lr=1.0)
    penalty.attach(optimizer)
    optimizer.param_groups[0]["params"] = list(copy.deepcopy(other).parameters())
    with pytest.raises(PruningError, match=r"in this optimizer any more: was its model cut\?\ncall handle.remove"):
        optimizer.step()


def test_state_goes_on() -> None:
    graph = traced(cnn())
    first, again = (total(GroupLasso(graph, 0.1), growing(graph, 0.1)) for _ in range(2))
    for _ in range(7):
        first.step()
    tensors: dict[str, Tensor] = {}
    again.load_state_dict(unpack(json.loads(json.dumps(pack(first.state_dict(), tensors))), tensors))
    assert [part.steps for part in again.parts] == [part.steps for part in first.parts] == [7, 7]


def test_history_sums_what_scales_a_unit(tmp_path: Path) -> None:
    net = cnn()
    history = ScaleHistory(traced(net))
    history.record(0)
    with torch.no_grad():
        net[1].weight.copy_(-torch.arange(8.0))
    history.record(5)
    data = json.loads(json.dumps(history.as_dict()))
    assert data["steps"] == [0, 5]
    assert data["axes"]["0"] == [[1.0] * 8, [float(i) for i in range(8)]]
    assert data["quantiles"]["1"] == [1.0, 7.0]
    pytest.importorskip("plotly", reason="needs secateur[plot]")
    history.plot(tmp_path / "scales.html")
    assert "Scales of norms on prunable axes" in (tmp_path / "scales.html").read_text(encoding="utf-8")


def test_history_prints_quantiles_and_what_is_near_zero() -> None:
    net = cnn()
    history = ScaleHistory(traced(net))
    assert str(history) == "no scales recorded yet"
    history.record(0)
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([0.001, 0.002, 0.0, 0.5, 1.0, 1.0, 1.0, 1.0]))
    history.record(100)
    assert str(history).splitlines() == [
        "step  least    10 %  25 %  median  75 %  90 %  largest  near zero",
        "   0      1       1     1       1     1     1        1        0 %",
        " 100      0  0.0019     1       1     1     1        1     15.0 %",
        "20 units on 2 axes; near zero: below 1% of the largest",
    ]


def test_history_of_many_steps_prints_some_of_them() -> None:
    history = ScaleHistory(traced(cnn()))
    for step in range(100):
        history.record(step)
    shown = [int(line.split()[0]) for line in str(history).splitlines()[1:-1]]
    assert len(shown) <= 12
    assert (shown[0], shown[-1]) == (0, 99)


def test_history_may_be_attached() -> None:
    net = cnn()
    history, optimizer = ScaleHistory(traced(net)), torch.optim.SGD(net.parameters(), lr=0.1)
    handle = history.attach(optimizer, every=2)
    for _ in range(5):
        optimizer.step()
    handle.remove()
    optimizer.step()
    assert history.steps == [0, 2, 4]
    history.attach(optimizer)
    optimizer.step()
    assert history.steps == [0, 2, 4, 5]


def test_history_of_a_training_by_fit() -> None:
    pytest.importorskip("accelerate", exc_type=ImportError)
    net = cnn()
    graph = traced(net)
    history = ScaleHistory(graph)
    batches = [(torch.randn(4, 3, 8, 8), torch.arange(4))] * 3
    pulls = [ScaleL1(graph, 0.1)]
    train.fit(net, batches, epochs=1, penalties=pulls, log=lambda step, numbers: history.record(step))
    assert history.steps == [1, 2, 3]
    assert history.as_dict()["quantiles"]["0.5"][-1] < 1


def test_what_history_refuses(tmp_path: Path) -> None:
    history = ScaleHistory(traced(cnn()))
    with pytest.raises(InputError, match="no scales to plot yet; call record"):
        history.plot(tmp_path / "scales.html")
    history.record(3)
    with pytest.raises(InputError, match=r"record\(3\) after record\(3\); steps must rise"):
        history.record(3)
    with pytest.raises(InputError, match="every=0; give a whole number of steps, from 1 up"):
        history.attach(torch.optim.SGD([nn.Parameter(torch.ones(1))]), every=0)
    with pytest.raises(InputError, match=r"name a file that ends in \.html"):
        history.plot(tmp_path / "scales.png")
    with pytest.raises(InputError, match="no norm scales any of these axes"):
        ScaleHistory(secateur.trace(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), torch.zeros(1, 4)))


def linear() -> Graph:
    return secateur.trace(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), torch.zeros(1, 4))


def untrained() -> Graph:
    return secateur.trace(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)).requires_grad_(False), torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScaleL1(traced(cnn()), -1.0), "strength=-1.0; give a number, 0 or above, such as 1e-4"),
        (lambda: ScaleL1(traced(cnn()), float("nan")), "strength=nan"),
        (lambda: GroupLasso(traced(cnn()), True), "strength=True"),
        (lambda: GroupLasso(cnn(), 0.1), "graph is a Sequential; make one first: secateur.trace(model"),
        (lambda: ScaleL1(linear(), 0.1), "no norm scales any of these axes, so ScaleL1 has nothing to act on"),
        (lambda: GroupLasso(untrained(), 0.1), "no parameter of these axes is trained; set requires_grad"),
        (lambda: GroupLasso(linear(), 0.1, select=secateur.Select(protect="*")), "the penalty has no axis to act on"),
        (lambda: GrowingL2(linear(), "channels=0.5"), "plan is a str"),
        (lambda: GrowingL2(g := linear(), secateur.plan(g, "channels=1.0")), "the plan drops nothing that is trained"),
        (lambda: GrowingL2(g := linear(), secateur.plan(g, "channels=0.5"), every=0), "every=0; give a whole number"),
        (lambda: GrowingL2(g := linear(), secateur.plan(g, "channels=0.5"), delta=-1), "delta=-1; give a number"),
        (lambda: total(), "total() of no penalty"),
        (lambda: total(GroupLasso(linear(), 1.0), GroupLasso(linear(), 1.0)), "total() of penalties on several models"),
    ],
)
def test_what_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make()


def test_a_plan_of_another_model() -> None:
    other = secateur.trace(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)), torch.zeros(1, 4))
    with pytest.raises(
        InputError, match=r"the plan is not of this model: 0.weight\n +plan +\(6, 4\)\n +model +\(8, 4\)"
    ):
        GrowingL2(linear(), secateur.plan(other, "channels=0.5"))


def test_growing_goes_on_with_the_units_that_it_grew_on() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    graph = secateur.trace(net, torch.zeros(1, 4))
    first, other = (GrowingL2(graph, secateur.plan(graph, drop={"0": units}), every=1) for units in ([0, 1], [5]))
    first.add_gradients_()
    other.load_state_dict(first.state_dict())
    assert other.strength == first.strength
    assert torch.equal(other(), first())


def complex_net() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1, dtype=torch.cfloat), nn.Conv2d(8, 6, 1, dtype=torch.cfloat), nn.Conv2d(6, 4, 1)
    )
    net.forward = lambda x: net[2](net[1](net[0](x.to(torch.cfloat))).abs())  # type: ignore[method-assign]
    return net


@pytest.mark.parametrize("name", ["group_lasso", "growing_l2"])
def test_complex_weights_are_refused(name: str) -> None:
    torch.manual_seed(0)
    message = r"\d\.weight is complex \(torch\.complex64\).*\nleave its units out, .*: select='\d: protect'"
    with pytest.raises(InputError, match=message):
        MAKE[name](traced(complex_net()), 0.3)


def test_a_penalty_leaves_complex_weights_out() -> None:
    net = nn.Sequential(complex_net(), nn.Conv2d(4, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    penalty = GroupLasso(traced(net), 0.3, select="0: protect")
    penalty.add_gradients_()
    assert [name for name, grad in gradients(net).items() if grad is not None] == ["1.weight", "1.bias", "3.weight"]
