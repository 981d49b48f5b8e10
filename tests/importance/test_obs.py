"""The surgeon's order against least squares worked out by brute force."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

import secateur
from secateur.importance import score
from secateur.statistics.calibration import calibrate


def net() -> nn.Module:
    torch.manual_seed(0)
    reads = nn.Conv2d(6, 6, 3, padding=1)
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), reads, nn.ReLU(), nn.Conv2d(6, 2, 1)).eval()


def scores(model: nn.Module, data: list[Tensor]) -> dict[str, Tensor]:
    graph = secateur.trace(model, data[0][:1])
    return score(graph, "obs", statistics=calibrate(graph, data, needs=["gram"], places=10_000))


def lost(x: Tensor, weight: Tensor, gone: tuple[int, ...]) -> float:
    """The root of the least share of x @ weight that is lost without some channels. x: (rows, channels, kernel)."""
    seen = (x - x.mean(0)).flatten(1)
    wanted = seen @ weight.flatten(0, 1)
    left = (x - x.mean(0))[:, [c for c in range(x.shape[1]) if c not in gone]].flatten(1)
    best = torch.linalg.lstsq(left, wanted).solution
    return float(((wanted - left @ best).square().sum() / wanted.square().sum()).sqrt())


def patches(model: nn.Module, data: list[Tensor]) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        x = torch.cat([model[:2](batch) for batch in data]).double()  # type: ignore[index]
    rows = nn.functional.unfold(x, 3, padding=1).transpose(1, 2).reshape(-1, 6, 9)
    return rows, model[2].weight.detach().double().permute(1, 2, 3, 0).reshape(6, 9, 6)  # type: ignore[index, union-attr]


def test_the_first_unit_is_the_one_whose_loss_is_least() -> None:
    model, data = net(), [torch.randn(64, 2, 9, 9) for _ in range(5)]
    x, weight = patches(model, data)
    alone = torch.tensor([lost(x, weight, (unit,)) for unit in range(6)])
    found = scores(model, data)["0"]
    assert int(found.argmin()) == int(alone.argmin())
    assert float(found.min()) == pytest.approx(float(alone.min()), rel=0.02)


def test_later_units_are_judged_without_those_before() -> None:
    model, data = net(), [torch.randn(64, 2, 9, 9) for _ in range(5)]
    x, weight = patches(model, data)
    found = scores(model, data)["0"]
    order = found.argsort(stable=True).tolist()
    squares = [0.0, *(lost(x, weight, tuple(order[:n])) ** 2 for n in range(1, 5))]
    steps = torch.tensor([(b - a) ** 0.5 for a, b in itertools.pairwise(squares)])
    torch.testing.assert_close(found[order[:4]].float(), steps.cummax(0).values, rtol=0.05, atol=0.0)


def test_a_unit_that_another_repeats_costs_nothing() -> None:
    model, data = net(), [torch.randn(64, 2, 9, 9) for _ in range(5)]
    first = model[0]  # type: ignore[index]
    first.weight.data[1], first.bias.data[1] = 2 * first.weight.data[0], 2 * first.bias.data[0]
    found = scores(model, data)["0"].sort()
    assert int(found.indices[0]) in (0, 1)
    assert float(found.values[0]) < 0.5 * float(found.values[1])


def test_what_least_squares_makes_good_is_chosen() -> None:
    """Of two equally strong units the one that the others can replace goes."""
    model, data = net(), [torch.randn(64, 2, 9, 9) for _ in range(5)]
    first = model[0]  # type: ignore[index]
    first.weight.data[3], first.bias.data[3] = first.weight.data[4], first.bias.data[4]
    graph = secateur.trace(model, data[0][:1])
    found = calibrate(graph, data, needs=["gram"])
    plan = secateur.plan(graph, select=secateur.Select(widths={"0": 5}), importance="obs", statistics=found)
    assert {3, 4} - set(plan.axes["0"].kept or ())  # type: ignore[arg-type]
    small = secateur.cut(model, plan).eval()
    with torch.no_grad():
        before = float((small(data[0]) - model(data[0])).norm())
    secateur.recover.recover_(small, graph, plan, data, "lsq")
    with torch.no_grad():
        assert float((small(data[0]) - model(data[0])).norm()) < 1e-3 * before
