"""Attributes that are named after channels, and that only printing reads, are true after a cut."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import secateur
from nets import Parts


class Layer(nn.Module):
    """As the layers of torch_geometric: the numbers are stored, and no call reads them."""

    def __init__(self, in_channels: int, out_channels: int, **more: Any):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels))
        vars(self).update(more)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.t()


def widths(layer: nn.Module) -> tuple[int, int]:
    return layer.in_channels, layer.out_channels


def test_widths_follow_what_a_layer_takes_and_returns() -> None:
    net = nn.Sequential(Layer(6, 16), nn.ReLU(), Layer(16, 16), nn.ReLU(), Layer(16, 4))
    result = secateur.prune(net, torch.randn(3, 6), drop={"0": [1], "2": [0, 2, 3]}, verify=True)
    assert [widths(result.model[i]) for i in (0, 2, 4)] == [(6, 15), (15, 13), (13, 4)]
    assert [widths(net[i]) for i in (0, 2, 4)] == [(6, 16), (16, 16), (16, 4)]


def test_other_dimensions_of_the_same_size_do_not_count() -> None:
    net = nn.Sequential(Layer(6, 16), nn.ReLU(), Layer(16, 4))
    result = secateur.prune(net, torch.randn(16, 6), drop={"0": [1]}, verify=True)
    assert [widths(result.model[i]) for i in (0, 2)] == [(6, 15), (15, 4)]


def test_a_number_stays_where_calls_disagree() -> None:
    """One layer on two inputs of the same width, of which one is cut: no single number is true of both."""

    def run(self: Any, x: Tensor) -> Tensor:
        return self.out(self.act(self.a(x)) + 0 * self.act(self.b(x)).sum(-1, keepdim=True))

    act = nn.ReLU()
    act.in_channels = 8
    shared = nn.Sequential(act)
    shared.in_channels = 8
    net = Parts(run, act=shared, a=nn.Linear(6, 8), b=nn.Linear(6, 8), out=nn.Linear(8, 4))
    result = secateur.prune(net, torch.randn(3, 6), drop={"a": [1]}, verify=True)
    assert result.model.act.in_channels == 8


def test_names_that_say_something_else_are_left_alone() -> None:
    net = nn.Sequential(Layer(6, 16, in_size=(6, 6), channels=16), nn.ReLU(), Layer(16, 4))
    result = secateur.prune(net, torch.randn(3, 6), drop={"0": [1]}, verify=True)
    assert (result.model[0].in_size, result.model[0].channels) == ((6, 6), 16)
    assert widths(result.model[0]) == (6, 15)


def test_a_saved_model_has_the_same_widths(tmp_path: Any) -> None:
    def build() -> nn.Module:
        return nn.Sequential(Layer(6, 16), nn.ReLU(), Layer(16, 4))

    secateur.prune(build(), torch.randn(3, 6), "channels=0.5").save(tmp_path / "small.safetensors")
    loaded = secateur.load(build(), tmp_path / "small.safetensors")
    assert [widths(loaded[i]) for i in (0, 2)] == [(6, 8), (8, 4)]
