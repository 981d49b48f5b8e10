"""Axes by the weights that hold them."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

import secateur
from secateur import InputError, Select

X = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))


class ScaledResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up, self.mix, self.out = (
            nn.Linear(6, 16),
            nn.Linear(16, 24),
            nn.Linear(24, 16),
            nn.Linear(16, 2),
        )
        self.norm = nn.BatchNorm1d(24)
        self.scale = nn.Parameter(torch.rand(16))

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return self.out(y + self.scale * self.mix(self.norm(self.up(y)).relu()))


NAMES = {
    **dict.fromkeys(["stem", "mix", "scale", "scale[0]", "out.weight[1]", "mix.bias", "stem.weight[0]"], "stem"),
    **dict.fromkeys(["up", "up.bias", "norm", "norm.weight", "norm.running_var[0]", "mix.weight[1]"], "up"),
}


@pytest.mark.parametrize("name", NAMES)
def test_units_are_dropped_through_any_weight_that_holds_them(name: str) -> None:
    net = ScaledResidual().eval()
    result = secateur.prune(net, X, drop={name: [0, 5]})
    assert [axis for axis, _ in result.plan.dropped()] == [NAMES[name]]
    assert result.plan == secateur.prune(net, X, drop={NAMES[name]: [0, 5]}).plan


@pytest.mark.parametrize("name", NAMES)
def test_widths_go_by_the_same_names(name: str) -> None:
    result = secateur.prune(ScaledResidual(), X, select=Select(widths={name: 8}))
    assert {axis: plan.kept_count for axis, plan in result.plan.dropped()} == {NAMES[name]: 8}


@pytest.mark.parametrize("name", ["scale", "scale[0]", "norm.weight", "out.weight[1]"])
def test_rules_go_by_tensors_named_in_full(name: str) -> None:
    result = secateur.prune(ScaledResidual(), X, select=[f"{name}: keep=0.5"])
    assert [axis for axis, _ in result.plan.dropped()] == [NAMES[name]]


def test_protecting_a_free_parameter_holds_its_axis() -> None:
    result = secateur.prune(ScaledResidual(), X, "channels=0.5", select=Select(protect=["scale"]))
    assert [axis for axis, _ in result.plan.dropped()] == ["up"]


REFUSED = {
    "out": ["'out'", "out.weight[0] is frozen: model output", "out.weight[1] belongs to the axis 'stem'"],
    "out.weight": ["out.weight[0] is frozen: model output", "out.weight[1] belongs to the axis 'stem'"],
    "out.weight[0]": ["out.weight[0] is frozen: model output"],
    "stem.weight[1]": ["stem.weight[1] is frozen: model input"],
    "scal": ["did you mean 'scale'?"],
    "scale[1]": ["did you mean 'scale'?"],
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_what_there_is(name: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"no prunable axis is named {name!r}")) as caught:
        secateur.prune(ScaledResidual(), X, drop={name: [0]})
    assert all(part in str(caught.value) for part in REFUSED[name])


def test_a_dimension_of_several_axes_names_them() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(6, 8), nn.Linear(6, 4), nn.Linear(12, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.cat([self.a(x), self.b(x)], 1))

    with pytest.raises(InputError, match=r"'out.weight\[1\]' holds more than the units of one axis; .*: 'a', 'b'"):
        secateur.prune(Joined(), X, drop={"out.weight[1]": [0]})
