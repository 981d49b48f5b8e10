"""Comparisons in `forward` that allow no smaller count, and targets that cut nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import secateur
from secateur import InputError, Select, TargetError

X = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))


class WidthAware(nn.Module):
    def __init__(self, asks: Callable[[int], bool]):
        super().__init__()
        self.inp, self.out, self.asks = nn.Linear(6, 12), nn.Linear(12, 2), asks

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inp(x)) * (1.0 if self.asks(self.inp.out_features) else 2.0)


NEVER: dict[str, Callable[[int], bool]] = {
    "above": lambda n: n > 11,
    "at least": lambda n: n >= 12,
    "below": lambda n: n < 12,
    "half": lambda n: n // 2 > 5 and n % 2 < 1,
    "in the shape": lambda n: 2 * n > 23,
}


@pytest.mark.parametrize("asks", NEVER)
def test_an_axis_of_which_no_smaller_count_is_allowed_is_frozen(asks: str) -> None:
    graph = secateur.trace(WidthAware(NEVER[asks]), X)
    assert not graph.axes
    reasons = {f.reason for f in graph.frozen if f.name == "inp.weight" and f.dim == 0}
    assert all("comparison at" in why and "test_forbidding.py:" in why for why in reasons)
    assert len(reasons) == 1
    for target in ("channels=0.5", "params=0.5"):
        with pytest.raises(InputError, match=r"inp.weight\[0\]: the comparison at .*allows no smaller count"):
            secateur.prune(WidthAware(NEVER[asks]), X, target)


def test_the_others_are_cut() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 12), nn.Linear(12, 10), nn.Linear(10, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            return self.c(self.b(y)) * (1.0 if y.shape[1] >= 12 else 2.0)

    result = secateur.prune(Two(), X, "channels=0.5")
    assert {name: axis.kept_count for name, axis in result.plan.dropped()} == {"b": 5}
    assert "allows no smaller count" in str(result)
    with pytest.raises(TargetError, match=r"a.weight\[0\] is frozen: the comparison at"):
        secateur.prune(Two(), X, "params=0.1")


def test_one_smaller_count_is_taken_and_the_report_says_what_holds_back() -> None:
    result = secateur.prune(WidthAware(lambda n: n > 10), X, "channels=0.5")
    assert result.plan.axes["inp"].kept_count == 11
    assert "held inp keeps 11 of 12 by the comparison at" in str(result)
    assert "held" not in secateur.prune(WidthAware(lambda n: n > 3), X, "channels=0.5").plan.notes


def test_a_share_that_cuts_nothing_is_an_error() -> None:
    class Joint(nn.Module):
        """Two widths, of which neither may shrink without the other, nor both."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 12), nn.Linear(6, 12), nn.Linear(24, 2)

        def forward(self, x: Tensor) -> Tensor:
            a, b = self.a(x), self.b(x)
            return self.c(torch.cat([a, b], 1)) * (1.0 if a.shape[1] + b.shape[1] > 23 else 2.0)

    with pytest.raises(TargetError, match=r"no axis can lose a unit\nthe comparison at .* must keep"):
        secateur.prune(Joint(), X, "channels=0.5")


def test_a_share_that_was_forbidden_by_the_user_cuts_nothing() -> None:
    net = nn.Sequential(nn.Linear(6, 12), nn.Linear(12, 2))
    assert secateur.prune(net, X, "channels=0.5", select=Select(protect=["0"])).plan.is_empty
    assert secateur.prune(net, X, "channels=1").plan.is_empty
