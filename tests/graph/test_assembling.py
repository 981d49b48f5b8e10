"""Descriptions that do not fit the model are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from secateur.errors import InputError
from secateur.graph.assembling import build_graph
from secateur.graph.sizes import Attribute
from secateur.terms import Axis, product

MODEL = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (
            {"dims": {"0.wieght": (Axis(8), Axis(4))}},
            r"dims names '0.wieght', .*did you mean '0.weight'.*\nuse the names",
        ),
        ({"dims": {"0.weight": (Axis(4), Axis(8))}}, r"as \(4, 8\), and its shape is \(8, 4\)\npass one term"),
        ({"dims": {"0.bias": (Axis(8), Axis(1))}}, r"as \(8, 1\), and its shape is \(8,\)"),
        (
            {"attributes": {Attribute("0", "out_features"): Axis(7)}},
            r"0.out_features is 7, and it is 8\nname an integer",
        ),
        ({"attributes": {Attribute("0", "features"): Axis(8)}}, "0.features is 8, and it is None"),
        ({"attributes": {Attribute("9", "out_features"): Axis(8)}}, "9.out_features is 8, and it is None"),
    ],
)
def test_what_does_not_fit_is_refused(described: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_graph(MODEL, **{"dims": {}, **described})


def test_parts_of_a_dimension_are_axes_of_their_own() -> None:
    heads, size = Axis(2), Axis(4)
    graph = build_graph(MODEL, {"0.weight": (product([heads, size]), Axis(4, "model input"))})
    assert [(axis.size, axis.name) for axis in graph.axes] == [(2, "0[0]"), (4, "0[1]")]


def test_buffers_hold_axes_too() -> None:
    channels = Axis(8)
    names = ["0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"]
    graph = build_graph(MODEL, dict.fromkeys(names, (channels,)), roles={("0.bias", 0): "output"})
    (axis,) = graph.axes
    assert (axis.name, [use.name for use in axis.sites]) == ("0", names)
    assert graph.sites["1.running_mean"].kind == "buffer"
    assert graph.sites["1.num_batches_tracked"].each == torch.int64.itemsize
