"""Wrong input gets an error that names the value and the mend; the model stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import secateur
from secateur import InputError, Select, TargetError


def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))


IMAGE = torch.zeros(1, 3, 8, 8)
WRONG: dict[str, tuple[Any, dict[str, Any], type[Exception], list[str]]] = {
    "shape": (torch.zeros(1, 4, 8, 8), {}, InputError, ["(1, 4, 8, 8) float32", "pass inputs of the shape"]),
    "dtype": (torch.zeros(1, 3, 8, 8, dtype=torch.int64), {}, InputError, ["int64", "pass inputs of the shape"]),
    "too many": ((IMAGE, IMAGE), {}, InputError, ["(1, 3, 8, 8) float32, (1, 3, 8, 8) float32", "takes"]),
    "unknown keyword": ({"image": IMAGE}, {}, InputError, ["image", "keywords as a dict"]),
    "text": ("1x3x8x8", {}, InputError, ["is a str: '1x3x8x8'", "a tensor, a tuple"]),
    "nothing": ((), {}, InputError, ["these example inputs: none", "a tuple"]),
    "no target": (IMAGE, {"target": None}, InputError, ["nothing to do", "'macs=0.5'"]),
    "target kind": (IMAGE, {"target": "mac=0.5"}, TargetError, ["'mac=0.5'", "did you mean 'macs'?"]),
    "target number": (IMAGE, {"target": "macs=half"}, TargetError, ["'half' is not a number", "'macs=0.5'"]),
    "target zero": (IMAGE, {"target": "params=0"}, TargetError, ["'params=0'", "more than 0"]),
    "target share": (IMAGE, {"target": "channels=8"}, TargetError, ["'channels=8'", "up to 1"]),
    "target above": (
        IMAGE,
        {"target": "macs=1e9"},
        TargetError,
        ["target macs=1000000000: the model has only", "macs=0.5"],
    ),
    "target unreachable": (IMAGE, {"target": "macs=0.001"}, TargetError, ["smallest possible is", "select.floor"]),
    "protect": (IMAGE, {"select": Select(protect=["0.wieght"])}, InputError, ["'0.wieght'", "matches no parameter"]),
    "width name": (IMAGE, {"select": Select(widths={"3": 4})}, InputError, ["'3'", "no prunable axis"]),
    "width count": (IMAGE, {"select": Select(widths={"0": 17})}, InputError, ["'0' to 17", "has 16 units"]),
    "drop name": (IMAGE, {"drop": {"conv": [0]}}, InputError, ["'conv'", "no prunable axis"]),
    "drop unit": (IMAGE, {"drop": {"0": [16]}}, InputError, ["unit 16 of '0'", "0 to 15"]),
    "drop all": (IMAGE, {"drop": {"0": range(16)}}, InputError, ["leaves 0 of 16 units", "at least 1 must stay"]),
    "importance": (IMAGE, {"importance": "l3"}, InputError, ["'l3'", "did you mean 'l", "known: l1, l2"]),
    "scope": (IMAGE, {"scope": "local"}, InputError, ["'local'", "'global', 'axis'"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(case: str) -> None:
    inputs, options, kind, parts = WRONG[case]
    net = model()
    before = {name: (id(p), p._version) for name, p in net.named_parameters()}
    with pytest.raises(kind) as caught:
        secateur.prune(net, inputs, **{"target": "macs=0.5", **options})
    assert [part for part in parts if part not in str(caught.value)] == []
    assert before == {name: (id(p), p._version) for name, p in net.named_parameters()}
    assert net.training


def test_the_smallest_reachable_value_is_reachable() -> None:
    graph = secateur.trace(model(), IMAGE)
    with pytest.raises(TargetError, match="the smallest possible is") as caught:
        secateur.plan(graph, "macs=0.001")
    least = int(str(caught.value).split("smallest possible is ")[1].split(" ")[0].replace(",", ""))
    assert secateur.plan(graph, f"macs={least}").after.macs == least
    with pytest.raises(TargetError):
        secateur.plan(graph, f"macs={least - 1}")


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Linear(8 * 64, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x).reshape(-1, 512))


@pytest.mark.parametrize("build", [Fixed, lambda: nn.Conv2d(3, 4, 1)])
def test_no_prunable_axis(build: Callable[[], nn.Module]) -> None:
    with pytest.raises(InputError, match="no prunable axis") as caught:
        secateur.prune(build(), IMAGE, "macs=0.5")
    assert "print(graph)" in str(caught.value)


def test_a_model_on_several_devices() -> None:
    net = model()
    net[2] = nn.Conv2d(16, 8, 3, device="meta")
    with pytest.raises(InputError, match=r"several devices: 0\.weight on cpu, 2\.weight on meta"):
        secateur.prune(net, IMAGE, "macs=0.5")
