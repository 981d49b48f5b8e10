"""Recurrent layers and cells, and networks that use their states."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets.parts import Parts
from nets.table import IDS, TOKENS, net


@net(
    "lstm",
    [TOKENS],
    axes={"rnn.weight_ih_l0": 8},
    frozen={
        "rnn.weight_ih_l0[1]": "model input",
        "rnn.weight_hh_l0[0]": "the gates of a recurrent cell",
        "fc.weight[0]": "model output",
    },
    params=4 * 8 * (6 + 8 + 2) + (8 * 5 + 5),
    macs=10 * (4 * 8 * (6 + 8) + 8 * 5),
)
def lstm() -> nn.Module:
    run = lambda self, x: self.fc(self.rnn(x)[0])  # noqa: E731
    return Parts(run, rnn=nn.LSTM(6, 8, batch_first=True), fc=nn.Linear(8, 5))


@net(
    "tagger",
    [IDS],
    axes={
        "embed": 6,
        "rnn.weight_ih_l0": 8,
        "rnn.weight_ih_l0_reverse": 8,
        "rnn.weight_ih_l1": 8,
        "rnn.weight_ih_l1_reverse": 8,
    },
    params=7 * 6 + 2 * 4 * 8 * (6 + 8 + 2) + 2 * 4 * 8 * (16 + 8 + 2) + (16 * 5 + 5),
    macs=6 * (2 * 4 * 8 * (6 + 8) + 2 * 4 * 8 * (16 + 8) + 16 * 5),
)
def tagger() -> nn.Module:
    """Two layers in two directions: all four keep the same count, each its own units."""
    rnn = nn.LSTM(6, 8, num_layers=2, bidirectional=True, batch_first=True, dropout=0.1)
    run = lambda self, ids: self.fc(self.rnn(self.embed(ids))[0])  # noqa: E731
    return Parts(run, embed=nn.Embedding(7, 6), rnn=rnn, fc=nn.Linear(16, 5))


@net(
    "projected_lstm",
    [TOKENS],
    axes={
        "a": 4,
        "rnn.weight_ih_l0": 9,
        "rnn.weight_hr_l0": 4,
        "rnn.weight_ih_l1": 9,
        "rnn.weight_hr_l1": 4,
    },
    params=(6 * 4 + 4) + 2 * (4 * 9 * (4 + 4 + 2) + 4 * 9) + (4 * 5 + 5),
    macs=10 * (6 * 4 + 2 * (4 * 9 * (4 + 4) + 4 * 9) + 4 * 5),
)
def projected_lstm() -> nn.Module:
    run = lambda self, x: self.fc(self.rnn(self.a(x))[0])  # noqa: E731
    rnn = nn.LSTM(4, 9, num_layers=2, proj_size=4)
    return Parts(run, a=nn.Linear(6, 4), rnn=rnn, fc=nn.Linear(4, 5))


@net(
    "gru",
    [IDS],
    axes={"embed": 6, "rnn.weight_ih_l0": 8, "rnn.weight_ih_l1": 8},
    params=7 * 6 + 3 * 8 * (6 + 8 + 2) + 3 * 8 * (8 + 8 + 2) + (8 * 5 + 5),
    macs=6 * (3 * 8 * (6 + 8) + 3 * 8 * (8 + 8)) + 3 * 8 * 5,
)
def gru() -> nn.Module:
    """The last state of the last layer is the feature; that of the first layer is unused."""
    run = lambda self, ids: self.fc(self.rnn(self.embed(ids))[1][-1])  # noqa: E731
    return Parts(run, embed=nn.Embedding(7, 6), rnn=nn.GRU(6, 8, num_layers=2), fc=nn.Linear(8, 5))


@net(
    "elman",
    [TOKENS],
    axes={"rnn.weight_ih_l0": 8, "tanh.weight_ih_l0": 7},
    params=8 * (6 + 8) + 7 * (8 + 7 + 2) + (7 * 5 + 5),
    macs=10 * (8 * (6 + 8) + 7 * (8 + 7) + 7 * 5),
)
def elman() -> nn.Module:
    run = lambda self, x: self.fc(self.tanh(self.rnn(x)[0])[0])  # noqa: E731
    rnn = nn.RNN(6, 8, nonlinearity="relu", bias=False)
    return Parts(run, rnn=rnn, tanh=nn.RNN(8, 7), fc=nn.Linear(7, 5))


@net(
    "states_of_both_directions",
    [TOKENS],
    axes={"rnn.weight_ih_l0": 8, "rnn.weight_ih_l0_reverse": 8, "rnn.weight_ih_l1": 8, "rnn.weight_ih_l1_reverse": 8},
    params=2 * 4 * 8 * (6 + 8 + 2) + 2 * 4 * 8 * (16 + 8 + 2) + (32 * 5 + 5),
    macs=10 * (2 * 4 * 8 * (6 + 8) + 2 * 4 * 8 * (16 + 8)) + 5 * 32 * 5,
)
def states_of_both_directions() -> nn.Module:
    """States taken apart by direction, by layer, and by a slice: each keeps its own units."""

    def run(self: Any, x: Tensor) -> Tensor:
        _, (h, c) = self.rnn(x)
        h = h.view(2, 2, h.shape[1], -1)[-1]
        forth, back = c[:2]
        return self.fc(torch.cat([h[0], h[1], forth, back], 1))

    return Parts(run, rnn=nn.LSTM(6, 8, num_layers=2, bidirectional=True), fc=nn.Linear(32, 5))


@net(
    "states_as_one",
    [TOKENS],
    axes={"rnn.weight_ih_l0": 8},
    params=3 * 8 * (6 + 8 + 2) + 3 * 8 * (8 + 8 + 2) + (16 * 5 + 5),
    macs=10 * (3 * 8 * (6 + 8) + 3 * 8 * (8 + 8)) + 2 * 16 * 5,
)
def states_as_one() -> nn.Module:
    """States of all layers concatenated: all layers keep the same units."""
    run = lambda self, x: self.fc(self.rnn(x)[1].transpose(0, 1).flatten(1))  # noqa: E731
    return Parts(run, rnn=nn.GRU(6, 8, num_layers=2, batch_first=True), fc=nn.Linear(16, 5))


@net(
    "encoder_decoder",
    [TOKENS],
    axes={"encoder.weight_ih_l0": 8, "encoder.weight_ih_l1": 8},
    params=2 * (4 * 8 * (6 + 8 + 2) + 4 * 8 * (8 + 8 + 2)) + (8 * 5 + 5),
    macs=10 * (2 * (4 * 8 * (6 + 8) + 4 * 8 * (8 + 8)) + 8 * 5),
)
def encoder_decoder() -> nn.Module:
    """The states of one net are the first of another: layer by layer the same units."""
    run = lambda self, x: self.fc(self.decoder(x, self.encoder(x)[1])[0])  # noqa: E731
    layers = {name: nn.LSTM(6, 8, num_layers=2) for name in ("encoder", "decoder")}
    return Parts(run, **layers, fc=nn.Linear(8, 5))


@net(
    "learned_states",
    [TOKENS],
    axes={"rnn.weight_ih_l0": 8},
    frozen={"h[0]": "one state for each layer and direction"},
    params=2 * 2 * 8 + 4 * 8 * (6 + 8 + 2) + 4 * 8 * (8 + 8 + 2) + (8 * 5 + 5),
    macs=10 * (4 * 8 * (6 + 8) + 4 * 8 * (8 + 8) + 8 * 5),
)
def learned_states() -> nn.Module:
    """One parameter holds the first states of all layers, so that all keep the same units."""

    def run(self: Any, x: Tensor) -> Tensor:
        h, c = (state.expand(-1, x.shape[0], -1).contiguous() for state in (self.h, self.c))
        return self.fc(self.rnn(x, (h, c))[0])

    states = {name: nn.Parameter(torch.randn(2, 1, 8)) for name in "hc"}
    return Parts(run, rnn=nn.LSTM(6, 8, num_layers=2, batch_first=True), fc=nn.Linear(8, 5), **states)


@net(
    "zero_states",
    [(5, 6)],
    axes={"rnn.weight_ih_l0": 8, "rnn.weight_ih_l0_reverse": 8},
    params=2 * 3 * 8 * (6 + 8 + 2) + (16 * 5 + 5),
    macs=5 * (2 * 3 * 8 * (6 + 8) + 16 * 5),
)
def zero_states() -> nn.Module:
    """First states of zeros, made by hand, for one sequence without a batch."""

    def run(self: Any, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x, torch.zeros(2, self.hidden).to(x))[0])

    return Parts(run, hidden=8, rnn=nn.GRU(6, 8, bidirectional=True), fc=nn.Linear(16, 5))


@net(
    "lstm_cell",
    [TOKENS],
    axes={"cell.weight_ih": 8, "gru.weight_ih": 7, "rnn.weight_ih": 9},
    params=4 * 8 * (6 + 8 + 2) + 3 * 7 * (8 + 7 + 2) + 9 + 9 * (7 + 9 + 2) + (9 * 5 + 5),
    macs=10 * (4 * 8 * (6 + 8) + 3 * 7 * (8 + 7) + 9 * (7 + 9) + 9 * 5),
)
def lstm_cell() -> nn.Module:
    """Cells in a loop, without first states, and with one that is a parameter."""

    def run(self: Any, x: Tensor) -> Tensor:
        state, h, last, outs = None, None, self.start.expand(x.shape[0], -1), []
        for step in x.unbind(1):
            state = self.cell(step, state)
            h = self.gru(state[0], h)
            last = self.rnn(h, last)
            outs.append(last)
        return self.fc(torch.stack(outs, 1))

    cells = {"cell": nn.LSTMCell(6, 8), "gru": nn.GRUCell(8, 7), "rnn": nn.RNNCell(7, 9, nonlinearity="relu")}
    return Parts(run, **cells, start=nn.Parameter(torch.randn(1, 9)), fc=nn.Linear(9, 5))


@net(
    "crnn",
    [(2, 3, 8, 12)],
    axes={"conv": 4, "rnn.weight_ih_l0": 8, "rnn.weight_ih_l0_reverse": 8},
    params=(3 * 9 * 4 + 4) + 2 * 4 + 2 * 4 * 8 * (16 + 8 + 2) + (16 * 5 + 5),
    macs=2 * 96 * 3 * 9 * 4 + 2 * 6 * (2 * 4 * 8 * (16 + 8) + 16 * 5),
)
def crnn() -> nn.Module:
    """Columns of an image are the steps of a sequence; channels and rows are its inputs."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.bn(self.conv(x)).relu(), 2)
        b, c, h, w = x.shape
        y, _ = self.rnn(x.permute(3, 0, 1, 2).reshape(w, b, c * h))
        return self.fc(y.view(w * b, -1)).view(w, b, -1)

    conv, rnn = nn.Conv2d(3, 4, 3, padding=1), nn.LSTM(16, 8, bidirectional=True)
    return Parts(run, conv=conv, bn=nn.BatchNorm2d(4), rnn=rnn, fc=nn.Linear(16, 5))
