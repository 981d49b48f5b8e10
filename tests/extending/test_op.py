"""An op of another package: its rule is one decorated function, and models with it are traced, pruned and proved."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import secateur
from secateur.testing import check_rule
from secateur.trace.op import Op
from secateur.trace.registry import ATEN, rule

NAME = "toy::peaks"
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@torch.library.custom_op(NAME, mutates_args=())
def peaks(x: Tensor, gain: Tensor) -> Tensor:
    """x: (n, c, h, w), gain: (c,) -> (n, c): the greatest value of each channel, scaled."""
    return x.amax((2, 3)) * gain


peaks.register_fake(lambda x, gain: x.new_empty(x.shape[:2]))


def peaks_rule(op: Op) -> None:
    """x: [n, c, *], gain: [c] -> [n, c]"""
    x, gain = op["x"], op["gain"]
    batch, channels, *places = op.dims(x)
    for place in places:
        op.freeze(place, "spatial")
    op.unify(channels, op.dims(gain)[0])
    op.role(gain, 0, "scale")
    op.result([batch, channels], op.zero(x)[:2])


@pytest.fixture
def ruled() -> Iterator[None]:
    rule(NAME)(peaks_rule)
    yield
    del ATEN[NAME]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 12, 3), nn.Linear(12, 5)
        self.gain = nn.Parameter(torch.rand(12) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(peaks(self.conv(x).relu(), self.gain))


@pytest.mark.usefixtures("ruled")
def test_a_model_with_it_is_traced_pruned_and_proved() -> None:
    model = Net()
    graph = secateur.trace(model, X)
    assert not graph.unknown
    assert [(axis.name, axis.size) for axis in graph.axes] == [("conv", 12)]
    assert [str(use) for use in graph.axes[0].sites if use.name == "gain"] == ["gain[0] scale"]
    found = secateur.prune(model, X, "params=0.5", verify=True)
    assert found.model.gain.shape == (found.plan.axes["conv"].kept_count,)
    assert 0 < found.plan.axes["conv"].kept_count < 12
    assert secateur.verify(model, found.model, found.plan, X).passed


@pytest.mark.usefixtures("ruled")
def test_the_laws_hold_for_the_rule() -> None:
    assert "arg0[1], arg1[0]" in check_rule(peaks, torch.randn(2, 6, 4, 3), torch.randn(6))


def test_without_its_rule_it_is_reported() -> None:
    graph = secateur.trace(Net(), X)
    assert dict(graph.unknown) == {NAME: 1}
    assert not graph.axes
    assert f'secateur.rule("{NAME}"' in str(graph)


def test_a_rule_that_comes_and_goes_between_two_traces_counts() -> None:
    model = Net()
    found = [len(secateur.trace(model, X).axes)]
    rule(NAME)(peaks_rule)
    try:
        found.append(len(secateur.trace(model, X).axes))
    finally:
        del ATEN[NAME]
    assert [*found, len(secateur.trace(model, X).axes)] == [0, 1, 0]


@pytest.mark.usefixtures("ruled")
def test_a_second_rule_raises() -> None:
    with pytest.raises(ValueError, match=f"two rules for {NAME}"):
        rule(NAME)(peaks_rule)
