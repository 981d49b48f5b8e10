"""Code that hides sizes or values from a trace: what it touches freezes, or the cut is refused. Never a wrong model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
import secateur
from nets import Parts

Use = Callable[[Any, Tensor], Tensor]


@torch.jit.script
def scripted(x: Tensor) -> Tensor:
    return x.view(x.shape[0], 8, 2, 12, 12).sum(2)


class Net(nn.Module):
    """a: 3 -> 16, b: 16 -> 16, h: 16 -> 3, and something odd in between."""

    def __init__(self, use: Use) -> None:
        super().__init__()
        self.a, self.b, self.h = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 3, 1)
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu()
        return self.h(y * self.use(self, y))


def written(self: Any, y: Tensor) -> Tensor:
    z = self.b(y).relu()
    z[:].add_(1.0)
    return z.sum(1, True)


def looped(self: Any, y: Tensor) -> Tensor:
    z = y
    for _ in range(y.shape[1] // 4):
        z = self.b(z)
    return z


def a_query_used_twice(self: Any, y: Tensor) -> Tensor:
    q = self.b(y).flatten(2).transpose(1, 2).unflatten(2, (4, -1)).transpose(1, 2)
    z = torch.nn.functional.scaled_dot_product_attention(q, q.roll(1, 2), q.flip(2)) + q.tanh()
    return z.sum((1, 3)).view(1, 1, 12, 12)


def parts_that_meet_again(self: Any, y: Tensor) -> Tensor:
    pair = self.b(y).flatten(2).mean(2).view(-1, 2, y.shape[1] // 2)
    first, second = pair[:, 0], pair[:, 1].relu()
    return (first.sum(1) + second.pow(2).sum(1) + (pair.sum(1) * first).sum(1)).view(-1, 1, 1, 1)


def counting_with_numbers(self: Any, y: Tensor) -> Tensor:
    chosen = self.b(y).mean((2, 3)).topk(2, -1)[1]
    return y * (chosen + 1).sum()


VERIFIED: dict[str, Use] = {
    "parts of a fused layer that meet again": parts_that_meet_again,
    "numbers of chosen units in arithmetic": counting_with_numbers,
    "a query that is used elsewhere": a_query_used_twice,
    "slice through units": lambda self, y: self.b(y).flatten(2)[:, :, : y.shape[1]].mean(2)[..., None, None],
    "slice past the end": lambda self, y: self.b(y)[..., : y.shape[1]].mean((2, 3), keepdim=True),
    "strided slice": lambda self, y: self.b(y)[:, 0 : y.shape[1] : 2].repeat(1, 2, 1, 1),
    "scripted view": lambda self, y: scripted(self.b(y)).repeat(1, 2, 1, 1),
    "written through a view": written,
    "tolist": lambda self, y: self.b(y) * torch.tensor(y.mean((0, 2, 3)).tolist())[:, None, None],
    "numpy": lambda self, y: torch.from_numpy(self.b(y).detach().numpy() * 2),
    "a table of sizes": lambda self, y: self.b(y) * {9: 2.0, 10: 3.0}.get(y.shape[1], 1.0),
    "formatted": lambda self, y: self.b(y) * float(f"{y.shape[1]}"),
}
REFUSED: dict[str, Use] = {
    "a loop over channels": looped,
    "a float over channels": lambda self, y: self.b(y) * (1.0 / y.shape[1]),
}


@pytest.mark.parametrize("name", VERIFIED)
def test_what_cannot_be_followed_freezes(name: str) -> None:
    net = laws.randomized(Net(VERIFIED[name]))
    graph = secateur.trace(net, torch.randn(1, 3, 12, 12))
    if not graph.axes:
        assert any(f.name == "b.weight" and f.dim == 0 for f in graph.frozen)
        return
    result = secateur.prune(net, torch.randn(1, 3, 12, 12), "channels=0.6", importance="random")
    verification = secateur.verify(net, result.model, result.plan, torch.randn(1, 3, 12, 12))
    assert verification.silence < 1e-9
    assert verification.permutation < 1e-9


@pytest.mark.parametrize("name", REFUSED)
def test_what_python_hides_is_refused(name: str) -> None:
    net = laws.randomized(Net(REFUSED[name]))
    with pytest.raises(secateur.PruningError, match="takes another path"):
        secateur.prune(net, torch.randn(1, 3, 12, 12), "channels=0.6", importance="random")


@pytest.mark.parametrize("script", [torch.jit.script, lambda m: torch.jit.trace(m, torch.randn(1, 16, 12, 12))])
def test_a_scripted_part_stays_as_it_is_and_says_so(script: Callable[[nn.Module], Any]) -> None:
    part, x = nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU(), nn.BatchNorm2d(16)).eval(), torch.randn(1, 3, 12, 12)
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 1), script(part), nn.Conv2d(16, 3, 1))
    result = secateur.prune(net, x, "channels=0.6", importance="random", verify=True)
    assert [axis.name for axis in result.graph.axes] == ["0"]
    reason = next(f.reason for f in result.graph.frozen if f.name == "2.weight")
    assert "3.0.weight belongs to a TorchScript module" in reason
    laws.check_cost(result.model, result.plan, x)
    laws.check_trains(result.model, x)


def test_a_compiled_part_is_cut_as_it_was_written() -> None:
    part = torch.compile(nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU()), backend="eager")
    net, x = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), part, nn.Conv2d(16, 3, 1)), torch.randn(1, 3, 12, 12)
    result = secateur.prune(net, x, "channels=0.6", importance="random", verify=True)
    assert [axis.size for axis in result.graph.axes] == [8, 16]
    assert result.model(x).shape == net(x).shape


def test_a_path_that_values_decide_is_verified_instead() -> None:
    """How often the loop runs depends on weights, so the pruned model walks the path of the silenced one."""

    def run(self: Any, y: Tensor) -> Tensor:
        z = self.b(y)
        for _ in range(int((z[:, 0] > 0.5).sum())):
            z = z * 0.9 + 0.1
        return z.sum(1, True)

    net, x = laws.randomized(Net(run)), torch.randn(1, 3, 12, 12)
    result = secateur.prune(net, x, "channels=0.6", importance="random")
    assert result.verification is not None
    assert result.verification.passed
    assert secateur.trace(result.model, x).run.path != result.graph.run.path


def test_a_forward_that_closes_over_its_modules_closes_over_the_copy() -> None:
    net, x = Net(lambda self, y: y), torch.zeros(1, 3, 12, 12)
    net.forward = lambda x: net.h(net.b(net.a(x)))  # type: ignore[method-assign]
    small = secateur.prune(net, x, "channels=0.6").model
    wanted = small.h(small.b(small.a(x)))
    for parameter in net.parameters():
        parameter.data.zero_()
    assert torch.equal(small(x), wanted)


def test_a_pruned_model_that_fails_is_reported_by_verify() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    plan = secateur.plan(secateur.trace(net, torch.zeros(1, 4)), "channels=0.5")
    broken = secateur.cut(net, plan)
    broken[2] = nn.Linear(7, 2)
    with pytest.raises(secateur.PruningError, match="the pruned model does not run: RuntimeError"):
        secateur.verify(net, broken, plan, torch.zeros(1, 4))


def test_the_path_is_part_of_the_graph() -> None:
    graph = secateur.trace(Net(lambda self, y: self.b(y) * 0.5), torch.zeros(1, 3, 12, 12))
    assert ("aten::mul", (0.5,)) in graph.run.path


@pytest.mark.parametrize("equation", ["nbi,bio->nbo", "n b i, b i o -> n b o", "...bi,bio->...bo"])
def test_einsum_keeps_two_units_of_what_it_sums(equation: str) -> None:
    """Over one unit it multiplies elementwise: another op, and no product of matrices to count."""

    def run(self: Any, x: Tensor) -> Tensor:
        blocks = torch.einsum(equation, self.a(x).relu().view(-1, *self.weight.shape[:2]), self.weight)
        return self.out(blocks.relu().flatten(1))

    net = Parts(run, a=nn.Linear(6, 12), weight=nn.Parameter(torch.randn(4, 3, 5)), out=nn.Linear(20, 5))
    result = secateur.prune(net, torch.randn(7, 6), "channels=0.1", importance="random", verify=True)
    assert result.plan.axes["a[1]"].kept_count == 2
    assert secateur.count(result.model, torch.randn(7, 6)).macs == result.plan.after.macs
