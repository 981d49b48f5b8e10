"""Experts that an example does not reach are traced like those that it reaches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import laws
import secateur


class Expert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(12, 8), nn.Linear(8, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).relu())


class Mixture(nn.Module):
    """One expert a token, each run on its own tokens; a norm behind them, which is read once they all have run."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.router, self.fc = nn.Linear(6, 12), nn.Linear(12, 6), nn.Linear(12, 5)
        self.experts = nn.ModuleList(Expert() for _ in range(6))
        self.norm = nn.LayerNorm(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).relu()
        weight, chosen = self.router(x).softmax(-1).topk(1, -1)
        y = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            mine = (chosen == number).any(-1)
            if mine.any():
                y[mine] = y[mine] + weight[mine] * expert(x[mine])
        return self.fc(self.norm(x + y))


def mixture() -> Mixture:
    torch.manual_seed(0)
    return laws.randomized(Mixture())


def test_experts_that_are_not_reached_are_prunable() -> None:
    graph = secateur.trace(mixture(), torch.randn(2, 6))
    assert not graph.unreached
    assert {axis.name for axis in graph.axes} == {"embed", *(f"experts.{i}.up" for i in range(6))}


def test_pruned_on_few_tokens_verified_on_many() -> None:
    model = mixture()
    plan = secateur.plan(secateur.trace(model, torch.randn(2, 6)), "channels=0.5", importance="random")
    assert plan.axes["experts.5.up"].kept_count == 4
    verification = secateur.verify(model, secateur.cut(model, plan), plan, torch.randn(16, 6))
    assert verification.passed


def test_readings_are_found_where_another_choice_of_experts_runs() -> None:
    """Silencing changes the choice, and with it how many ops run before the norm."""
    model = mixture()
    for seed in range(8):
        inputs = torch.randn(2, 6, generator=torch.Generator().manual_seed(seed))
        plan = secateur.plan(secateur.trace(model, inputs), "channels=0.5", importance="random", seed=seed)
        assert secateur.verify(model, secateur.cut(model, plan), plan, inputs).silence < 1e-9


def test_a_like_module_of_another_shape_is_no_alternative() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 5)
            self.heads = nn.ModuleList([nn.Linear(6, 8), nn.Linear(6, 9)])

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) + self.heads[0](x).sum()

    assert secateur.trace(Two(), torch.randn(2, 6)).unreached == ("heads.1.weight", "heads.1.bias")
