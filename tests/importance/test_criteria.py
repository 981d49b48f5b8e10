"""The formulas of criteria that read data, against brute force; and what refuses to score."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from nets import NETS, Parts, graph_of
from secateur import InputError, PruningError
from secateur.importance import CRITERIA, Lp, Normalised, combine, score
from secateur.importance.depth import SCORING
from secateur.statistics.calibration import calibrate
from secateur.statistics.sums import NEEDS
from secateur.testing import check_criterion


class Gated(nn.Module):
    """Units of one axis times a factor of 1, where they are read."""

    def __init__(self, n: int):
        super().__init__()
        self.gate = nn.Parameter(torch.ones(n))

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.gate.view(1, -1, 1, 1) if x.dim() == 4 else self.gate)


def plain() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        return self.fc(self.c(self.gate(self.a(x).relu())).relu().mean((2, 3)))

    return Parts(run, a=nn.Conv2d(3, 6, 3), gate=Gated(6), c=nn.Conv2d(6, 4, 3), fc=nn.Linear(4, 3))


def normed() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        return self.fc(self.c(self.gate(self.bn(self.a(x)).relu())).relu().mean((2, 3)))

    parts = {"a": nn.Conv2d(3, 6, 3), "bn": nn.BatchNorm2d(6), "c": nn.Conv2d(6, 4, 3), "fc": nn.Linear(4, 3)}
    net = Parts(run, gate=Gated(6), **parts)
    nn.init.normal_(net.bn.bias)  # type: ignore[union-attr]
    return net


def curved() -> nn.Module:
    """A residual stream behind a layer norm and GELU, which are not homogeneous."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x.mean((2, 3)))
        return self.fc(F.gelu(self.norm(x + self.c(self.gate(F.gelu(self.b(x)))))))

    net = Parts(run, a=nn.Linear(3, 8), b=nn.Linear(8, 6), gate=Gated(6), c=nn.Linear(6, 8), norm=nn.LayerNorm(8))
    net.fc = nn.Linear(8, 3)
    return net


def branching() -> nn.Module:
    """Two weights read the same units."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.gate(F.silu(self.a(x)))
        return self.fc((self.b(x).relu() + self.c(x)).mean((2, 3)))

    parts = {"b": nn.Conv2d(6, 4, 1), "c": nn.Conv2d(6, 4, 1), "fc": nn.Linear(4, 3)}
    return Parts(run, a=nn.Conv2d(3, 6, 3), gate=Gated(6), **parts)


BUILD = {"plain": (plain, "a"), "normed": (normed, "a"), "curved": (curved, "b"), "branching": (branching, "a")}
EVERY = pytest.mark.parametrize("name", BUILD)


def without_gate(net: nn.Module) -> nn.Module:
    net = copy.deepcopy(net)
    net.gate = nn.Identity()
    return net


def cases(n: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(4, 3, 8, 8, generator=generator), torch.randint(0, 3, (4,), generator=generator)) for _ in range(n)
    ]


def made(name: str) -> tuple[nn.Module, str]:
    build, axis = BUILD[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build().eval(), axis


def found(name: str, criterion: Any, norm: str = "none") -> Tensor:
    net, axis = made(name)
    graph = secateur.trace(without_gate(net), cases()[0][0])
    statistics = calibrate(graph, cases(), needs=NEEDS, loss=F.cross_entropy)
    if isinstance(criterion, str):
        return score(graph, f"{criterion}/{norm}", statistics=statistics)[axis]
    return score(graph, criterion, statistics=statistics)[axis]


def gates(name: str, mean: bool = False) -> Tensor:
    """dL/dgate of each example, by autograd on an explicit product: (examples, units)."""
    net, _ = made(name)
    rows = []
    for x, y in cases():
        for i in range(len(x)):
            loss = F.cross_entropy(net(x[i : i + 1]), y[i : i + 1])
            rows.append(torch.autograd.grad(loss, net.gate.gate)[0])  # type: ignore[union-attr]
    return torch.stack(rows).double()


@EVERY
def test_taylor_is_the_mean_over_examples_of_what_a_gate_does(name: str) -> None:
    expected = gates(name).abs().mean(0)
    torch.testing.assert_close(found(name, "taylor"), expected, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(found(name, "taylor", "l2"), expected / expected.norm(), rtol=1e-4, atol=1e-6)


@EVERY
def test_examples_cancel_in_the_batch_form(name: str) -> None:
    expected = gates(name).view(3, 4, -1).sum(1).abs().sum(0) / 12
    torch.testing.assert_close(found(name, "taylor_batch"), expected, rtol=1e-4, atol=1e-7)


@EVERY
def test_fisher_is_half_the_mean_square(name: str) -> None:
    torch.testing.assert_close(found(name, "fisher"), gates(name).square().mean(0) / 2, rtol=1e-4, atol=1e-9)


@EVERY
def test_gates_are_what_removing_a_little_of_a_unit_costs(name: str) -> None:
    """No derivatives: the loss with 1 % less of a unit."""
    net, _ = made(name)
    net = net.double()
    x, y = (torch.cat(parts) for parts in zip(*cases(), strict=True))
    expected = []
    for unit in range(6):
        losses = []
        for factor in (1.001, 0.999):
            net.gate.gate.data.fill_(1)[unit] = factor  # type: ignore[operator, union-attr]
            losses.append(F.cross_entropy(net(x.double()), y, reduction="none"))
        expected.append(((losses[0] - losses[1]) / 0.002).abs().mean())
    torch.testing.assert_close(found(name, "taylor"), torch.stack(expected).detach(), rtol=1e-2, atol=1e-5)


def test_criteria_of_weights_and_gradients() -> None:
    net, _ = made("normed")
    net = without_gate(net)
    slices = ("a.weight", "a.bias", "bn.weight", "bn.bias")
    gradients: list[dict[str, Tensor]] = []
    for x, y in cases():
        net.zero_grad()
        F.cross_entropy(net(x), y).backward()
        gradients.append({n: p.grad.double().clone() for n, p in net.named_parameters() if p.grad is not None})
    w = {name: p.detach().double() for name, p in net.named_parameters()}
    mean = {name: sum(g[name] for g in gradients) / 3 for name in slices}
    square = {name: sum(g[name] ** 2 for g in gradients) / 3 for name in slices}

    def total(element: Callable[[str], Tensor]) -> Tensor:
        return torch.stack([element(name).reshape(6, -1).sum(1) for name in slices]).sum(0)

    for criterion, element in {
        "taylor_weight": lambda n: (w[n] * mean[n]) ** 2,
        "snip": lambda n: (w[n] * mean[n]).abs(),
        "obd": lambda n: w[n] ** 2 * square[n] / 2,
    }.items():
        torch.testing.assert_close(found("normed", criterion), total(element), rtol=1e-4, atol=1e-9)


def test_hutchinson_finds_the_diagonal_of_a_hessian() -> None:
    """In the mean over many draws; of a linear layer behind a softmax it is E[x_j^2 p (1 - p)]."""
    net = nn.Linear(4, 3, bias=False)
    graph = secateur.trace(net, torch.zeros(1, 4))
    x, y = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
    draws = [calibrate(graph, [(x, y)], needs=["curvature"], loss=F.cross_entropy, seed=seed) for seed in range(300)]
    with torch.no_grad():
        p = net(x).softmax(1)
        exact = ((p * (1 - p)).T @ x.square() / 8).double()
    mean = torch.stack([s.sums["weight", "curvature"] for s in draws]).mean(0)
    torch.testing.assert_close(mean, exact, rtol=0.1, atol=0.1 * float(exact.max()))


def moments(name: str) -> Tensor:
    """All that is read of each unit: (units, values)."""
    net, _ = made(name)
    seen: list[Tensor] = []
    net.gate.register_forward_hook(lambda module, args, out: seen.append(out.detach()))  # type: ignore[union-attr]
    for x, _ in cases():
        net(x)
    whole = torch.cat(seen)
    return whole.movedim(1, 0).flatten(1).double()


def test_criteria_of_activations() -> None:
    x = moments("plain")
    weight = made("plain")[0].c.weight.detach().double()  # type: ignore[union-attr]
    for criterion, expected in {
        "apoz": (x != 0).double().mean(1),
        "activation": x.abs().mean(1),
        "vbp": x.var(1, correction=0),
        "wanda": weight.abs().sum((0, 2, 3)) * x.square().mean(1).sqrt(),
    }.items():
        torch.testing.assert_close(found("plain", criterion), expected, rtol=1e-4, atol=1e-6)


def test_wanda_adds_up_readers_and_the_rest_takes_their_mean() -> None:
    net, x = made("branching")[0], moments("branching")
    weights = net.b.weight.detach().double().abs() + net.c.weight.detach().double().abs()  # type: ignore[union-attr]
    expected = weights.sum((0, 2, 3)) * x.square().mean(1).sqrt()
    torch.testing.assert_close(found("branching", "wanda"), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found("branching", "activation"), x.abs().mean(1), rtol=1e-4, atol=1e-6)


def test_groups_of_channels_meet_their_own_weights() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 3, groups=2), nn.Flatten(), nn.Linear(4, 2))
    graph = secateur.trace(net, torch.zeros(1, 3, 3, 3))
    x, _ = cases()[0]
    statistics = calibrate(graph, [x[..., :3, :3]])
    with torch.no_grad():
        rms = net[:2](x[..., :3, :3]).square().mean((0, 2, 3)).sqrt().double()
        columns = net[2].weight.double().abs().view(2, 2, 3, -1).sum((1, 3)).flatten()  # type: ignore[operator, union-attr]
    scores = score(graph, "wanda/none", statistics=statistics)
    torch.testing.assert_close(scores["0[1]"], (columns * rms).view(2, 3).sum(0), rtol=1e-4, atol=1e-7)


def test_magnitudes_that_compare() -> None:
    graph = graph_of("plain_cnn")
    w = {name: p.detach().double() for name, p in graph.model.named_parameters()}
    squares = w["conv1.weight"].flatten(1).square().sum(1) + w["conv1.bias"].square()
    expected = torch.stack([s / squares[squares >= s].sum() for s in squares])
    torch.testing.assert_close(score(graph, "lamp")["conv1"], expected, rtol=1e-6, atol=0)

    rows = torch.cat([w["conv1.weight"].flatten(1), w["conv1.bias"][:, None]], 1)
    distances = torch.stack([torch.stack([(a - b).norm() for b in rows]).sum() for a in rows])
    torch.testing.assert_close(score(graph, "fpgm/none")["conv1"], distances, rtol=1e-5, atol=1e-5)

    total = squares + w["conv2.weight"].square().sum((0, 2, 3)) + w["bn.weight"].square()
    torch.testing.assert_close(score(graph, "group_l2/none")["conv1"], total.sqrt(), rtol=1e-6, atol=0)
    cubes = w["conv1.weight"].flatten(1).abs().pow(3).sum(1) + w["conv1.bias"].abs().pow(3)
    torch.testing.assert_close(score(graph, Normalised(Lp(3), "none"))["conv1"], cubes ** (1 / 3), rtol=1e-6, atol=0)


def test_criteria_weighed_together() -> None:
    graph = graph_of("plain_cnn")
    l1, fpgm = score(graph, "l1")["conv1"], score(graph, "fpgm")["conv1"]
    mixed = score(graph, Normalised(combine({"l1": 0.7, "fpgm": 0.3}), "none"))["conv1"]
    torch.testing.assert_close(mixed, 0.7 * l1 + 0.3 * fpgm)
    ranked = score(
        graph, Normalised(combine({"l1": 2, lambda axis: -axis.power_sum("output", 1): 1}, by="rank"), "none")
    )
    places = l1.argsort().argsort().double()
    torch.testing.assert_close(ranked["conv1"], 2 * (places + 1) / 8 + (8 - places) / 8)


NETWORK = NETS["plain_cnn"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "importance='taylor' is read from data; give data=, batches of"),
        ({"data": [torch.zeros(2, 3, 8, 8)]}, "importance='taylor' reads derivatives of the loss; give loss="),
    ],
)
def test_what_a_criterion_needs_is_asked_for(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        secateur.prune(NETWORK.make(), NETWORK.example(), "macs=0.5", importance="taylor", **options)


@pytest.mark.parametrize("by", ["sum", "rank"])
def test_prune_calibrates_for_combinations(by: str) -> None:
    batches = [(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3]))]
    result = secateur.prune(
        NETWORK.make(), NETWORK.example(), "macs=0.5", importance=combine({"taylor": 0.7, "wanda": 0.3}, by=by),
        data=batches, loss=F.cross_entropy, verify=True,
    )  # fmt: skip
    assert result.plan.after.macs <= result.plan.before.macs / 2


def test_a_function_may_say_what_it_needs() -> None:
    def mine(axis: secateur.importance.AxisSlices) -> Tensor:
        return axis.read_mean(lambda heard: heard.absolute)  # type: ignore[return-value]

    mine.needs = frozenset({"moments"})  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="importance='mine' is read from data"):
        secateur.prune(NETWORK.make(), NETWORK.example(), "macs=0.5", importance=mine)
    result = secateur.prune(
        NETWORK.make(), NETWORK.example(), "channels=0.5", importance=mine, data=[torch.randn(4, 3, 8, 8)]
    )
    assert not result.plan.is_empty
    check_criterion(mine)


def test_statistics_that_lack_something() -> None:
    graph = graph_of("plain_cnn")
    with pytest.raises(InputError, match=r"needs statistics\ngive statistics=.*needs=\['gates'\]"):
        secateur.plan(graph, "macs=0.5", importance="taylor")
    statistics = calibrate(graph, [torch.zeros(2, 3, 8, 8)])
    with pytest.raises(InputError, match="needs 'gradients' too"):
        secateur.plan(graph, "macs=0.5", importance="snip", statistics=statistics)


def test_axes_that_no_weight_reads_are_noted() -> None:
    net = NETS["attention"]
    graph = secateur.trace(net.make(), net.example())
    statistics = calibrate(graph, [(net.example(), None)], needs=["gates"], loss=lambda out, _: out.square().mean())
    plan = secateur.plan(graph, "channels=0.5", importance="taylor", statistics=statistics)
    assert plan.notes["by_weights"] == "qkv[0]"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normalised(Lp(), "l3"), "cannot be normalised by 'l3'.*\nknown: none, mean, max, sum, l2"),
        (lambda: score(graph_of("plain_cnn"), "l2/l3"), "cannot be normalised by 'l3'"),
        (lambda: Lp(0), "p=0 is not the exponent of a p-norm"),
        (lambda: combine({}), "combine got no criteria\ngive weights"),
        (lambda: combine({"l2": -1}), "combine got the weight -1 for 'l2'\ngive a number above 0"),
        (lambda: combine({"l2": 1}, by="mean"), "by='mean'; one of 'sum', 'rank'"),
        (lambda: combine({"l22": 1}), "no importance is named 'l22'"),
    ],
)
def test_what_cannot_be_combined(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_what_cannot_be_differentiated_twice() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * 2

    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    graph = secateur.trace(net, torch.zeros(1, 4))
    batches = [(torch.randn(2, 4), torch.tensor([0, 1]))]
    with pytest.raises(PruningError, match=r"cannot be differentiated twice: .*\nchoose an importance of first"):
        calibrate(graph, batches, needs=["curvature"], loss=lambda out, y: F.cross_entropy(Once.apply(out), y))


def blocks() -> nn.Module:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 6)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.b(self.a(x).relu())

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), *(Block() for _ in range(3)), nn.Linear(6, 2))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_criteria_score_blocks_or_say_which_do(criterion: str) -> None:
    graph = secateur.trace(blocks(), torch.zeros(1, 4))
    batches = [(torch.randn(8, 4, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 2)]
    statistics = calibrate(graph, batches, needs=NEEDS, loss=F.cross_entropy)
    if criterion in SCORING:
        plan = secateur.plan(graph, "depth=2", importance=criterion, statistics=statistics)
        assert len(plan.removed) == 1
    else:
        with pytest.raises(InputError, match=r"'\d' is a block\nscore blocks with one of l1, l2, "):
            secateur.plan(graph, "depth=2", importance=criterion, statistics=statistics)


def by_place(axis: Any) -> Tensor:
    return torch.arange(1, axis.shape[-1] + 1).expand(axis.shape).double()


def touching(axis: Any) -> Tensor:
    axis._known.parameters["head.bias"].data.add_(1.0)
    return axis.power_sum("output", 2)


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        (lambda axis: axis.power_sum("output", 2) - 1, "law 1: a score of 'conv1' is negative"),
        (lambda axis: torch.rand(axis.shape), "law 2: 'conv1' has other scores the second time"),
        (by_place, "law 4: permuted units of 'conv1' have other scores"),
        (lambda axis: 1 / (1 + axis.power_sum("output", 2)), "law 5: a unit of zeros scores 1"),
    ],
)
def test_the_check_of_criteria_can_fail(criterion: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_criterion(criterion)


def test_the_check_sees_changed_parameters() -> None:
    with pytest.raises(AssertionError, match="law 3: scoring changed"):
        check_criterion(touching)
