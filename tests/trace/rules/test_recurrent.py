"""Recurrent layers beyond the table of networks: packed sequences, states that come and go, what stays and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import laws
import secateur
from nets import IDS, NETS, Parts
from secateur.graph.graph import Graph

KINDS = pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])


def axes_of(graph: Graph) -> dict[str, int]:
    return {axis.name: axis.size for axis in graph.axes}


def reason(graph: Graph, name: str, dim: int) -> str:
    return next(frozen.reason for frozen in graph.frozen if (frozen.name, frozen.dim) == (name, dim))


def pack_and_pad(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    packed, state = self.rnn(pack_padded_sequence(self.a(x), lengths, enforce_sorted=False))
    assert isinstance(packed, PackedSequence)
    last = state[0] if isinstance(state, tuple) else state
    return self.fc(pad_packed_sequence(packed)[0]) + self.fc(torch.cat([last[-2], last[-1]], 1))


@KINDS
def test_packed_sequences(kind: Callable[..., nn.Module], tmp_path: Path) -> None:
    """They need values, so they are recorded on real tensors alone."""
    inputs = (torch.randn(5, 3, 6), torch.tensor([5, 3, 4]))
    build = lambda: Parts(  # noqa: E731
        pack_and_pad, a=nn.Linear(6, 7), rnn=kind(7, 8, num_layers=2, bidirectional=True), fc=nn.Linear(16, 5)
    )
    model = laws.randomized(build())
    pruned = secateur.prune(model, inputs, "channels=0.6", importance="random")
    assert {axis.size for axis in pruned.graph.axes} == {7, 8}
    assert len(pruned.graph.axes) == 5
    laws.check_verified(model, pruned.model, pruned.plan, inputs)
    laws.check_cost(pruned.model, pruned.plan, inputs)
    laws.check_round_trip(build, pruned.model, pruned.plan, inputs, tmp_path / "m.safetensors")


@KINDS
def test_states_that_leave_the_model_stay(kind: Callable[..., nn.Module]) -> None:
    graph = secateur.trace(Parts(lambda self, x: self.rnn(x), rnn=kind(6, 8, num_layers=2)), torch.zeros(2, 5, 6))
    assert axes_of(graph) == {}
    assert "model output" in reason(graph, "rnn.weight_hh_l0", 1)


def test_states_that_come_from_outside_stay() -> None:
    net = NETS["lstm"].make()
    net._run = lambda self, x, h, c: self.fc(self.rnn(x, (h, c))[0])
    graph = secateur.trace(net, (torch.zeros(2, 5, 6), torch.zeros(1, 2, 8), torch.zeros(1, 2, 8)))
    assert reason(graph, "rnn.weight_hh_l0", 1) == "model input"


@pytest.mark.parametrize("zeros", [lambda x: torch.zeros(2, x.shape[0], 8), lambda x: x.new_zeros(2, x.shape[0], 8)])
def test_a_literal_size_of_a_state_stays(zeros: Callable[[Tensor], Tensor]) -> None:
    rnn, fc = nn.GRU(6, 8, batch_first=True, bidirectional=True), nn.Linear(16, 5)
    graph = secateur.trace(
        Parts(lambda self, x: self.fc(self.rnn(x, zeros(x))[0]), rnn=rnn, fc=fc), torch.zeros(2, 5, 6)
    )
    assert axes_of(graph) == {}
    assert "created with a literal size" in reason(graph, "rnn.weight_hh_l0", 1)


def written(self: Any, x: Tensor) -> Tensor:
    state = torch.zeros(2, x.shape[0], self.rnn.hidden_size)
    state[0].add_(self.start)
    return self.fc(self.rnn(x, state)[0])


@pytest.mark.parametrize("run", ["meta", "real", "fake"])
def test_zeros_that_were_written_to_have_units(run: str) -> None:
    """The start of one direction is the start of both, for they come in one tensor."""
    parts = {"rnn": nn.GRU(6, 8, batch_first=True, bidirectional=True), "fc": nn.Linear(16, 5)}
    net = laws.randomized(Parts(written, start=nn.Parameter(torch.randn(8)), **parts))
    inputs = torch.randn(2, 5, 6)
    graph = secateur.trace(net, inputs, run=run)
    assert axes_of(graph) == {"rnn.weight_ih_l0": 8}
    plan = secateur.plan(graph, "channels=0.6", importance="random")
    laws.check_verified(net, secateur.cut(net, plan), plan, inputs)


def test_fewer_projected_units_than_units() -> None:
    """torch takes a layer that projects to as many units as it has for one that does not project."""
    graph = secateur.trace(NETS["projected_lstm"].make(), NETS["projected_lstm"].example())
    assert {axis.size: axis.least for axis in graph.axes} == {4: 1, 9: 5}


def test_layers_share_one_count() -> None:
    graph = secateur.trace(NETS["tagger"].make(), IDS)
    plan = secateur.plan(graph, drop={"rnn.weight_ih_l0": [1, 2], "rnn.weight_ih_l1": [0, 7]})
    assert {axis.kept_count for axis in plan.axes.values() if axis.size == 8} == {6}
    assert secateur.cut(graph.model, plan).rnn.hidden_size == 6


@torch.jit.script
def scripted(x: Tensor, h: Tensor, weights: list[Tensor]) -> Tensor:
    return torch.lstm(x, [h, h], weights, True, 1, 0.0, False, False, False)[0]


def test_a_scripted_layer_is_frozen_with_a_reason() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.fc(scripted(x, torch.zeros(1, x.shape[1], 8), list(self.rnn.parameters())))

    graph = secateur.trace(Parts(forward, rnn=nn.LSTM(6, 8), fc=nn.Linear(8, 5)), torch.zeros(2, 5, 6))
    assert axes_of(graph) == {}
    assert "such as TorchScript" in reason(graph, "fc.weight", 1)


@KINDS
def test_many_steps_are_one_step_of_the_trace(kind: Callable[..., nn.Module]) -> None:
    parts = {"rnn": kind(6, 8, batch_first=True), "fc": nn.Linear(8, 5)}
    graph = secateur.trace(Parts(lambda self, x: self.fc(self.rnn(x)[0]), **parts), torch.zeros(1, 5000, 6), run="meta")
    assert len(graph.run.path) < 10
