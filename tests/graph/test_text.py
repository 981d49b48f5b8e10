from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import secateur
from nets import NETS, graph_of
from secateur.base.text import PAGE
from secateur.graph.data import as_dict
from secateur.graph.frozen_text import frozen_summary
from secateur.graph.graph import Graph
from secateur.graph.parts import Frozen
from secateur.graph.sections import Diagnosis
from secateur.graph.text import ROWS, table
from secateur.graph.why import why


def row(text: str, name: str) -> dict[str, str]:
    """The cells of an axis' line by the words of the head; the columns before `kind` have no blanks but in units."""
    lines = text.splitlines()
    head = next(line for line in lines if " units " in line)
    line = next(line for line in lines if line.startswith(f"  {name} "))
    ends = {word.group(): word.end() for word in re.finditer(r"\S+", head) if word.group() in CELLS}
    cells, start = {}, len(name) + 2
    for word, end in ends.items():
        stop = len(line) if word == "kind" else end
        cells[word] = line[start:stop].strip()
        start = end
    return cells


CELLS = {"units", "of", "sites", "out", "in", "norm", "params", "MACs", "kind"}


@pytest.mark.parametrize("name", NETS)
def test_every_network_prints_and_dumps(name: str) -> None:
    graph = graph_of(name)
    text, data = table(graph), json.loads(json.dumps(as_dict(graph)))
    assert {axis["name"]: axis["size"] for axis in data["axes"]} == NETS[name].axes
    assert all(f"  {axis} " in text for axis in NETS[name].axes)
    assert max(map(len, text.splitlines())) <= PAGE


@pytest.mark.parametrize("name", NETS)
def test_why_tells_of_every_parameter(name: str) -> None:
    graph = graph_of(name)
    text = str(why(graph, "*"))
    for site in graph.sites.values():
        assert not site.dims or f"{site.name}{'' if site.kind == 'parameter' else f' ({site.kind})'}: " in text
    for frozen in graph.frozen:
        assert "".join(frozen.reason.split()) in "".join(text.split())
    for axis in graph.axes:
        assert f"axis {axis.name}: " in text


def test_an_axis_has_its_sites_roles_and_shares() -> None:
    cells = row(table(graph_of("plain_cnn")), "conv1")
    assert cells == {
        "units": "8",
        "sites": "7",
        "out": "2",
        "in": "1",
        "norm": "1/1/2",
        "params": "81.1 %",
        "MACs": "98.6 %",
        "kind": "exact",
    }


def test_shares_are_what_an_axis_covers() -> None:
    graph = graph_of("plain_cnn")
    axes = {axis["name"]: axis for axis in as_dict(graph)["axes"]}
    on_conv1 = (3 * 9 * 8 + 8) + 2 * 8 + 8 * 9 * 12
    assert axes["conv1"]["params"] == pytest.approx(on_conv1 / NETS["plain_cnn"].params)
    assert axes["conv2"]["macs"] == pytest.approx((4 * 8 * 9 * 12 + 12 * 4 * 5) / NETS["plain_cnn"].macs)


def test_inexact_axes_carry_their_reason() -> None:
    text = table(graph_of("layer_norm"))
    name = NETS["layer_norm"].inexact[0]
    number = re.fullmatch(r"(\(\d\))", row(text, name)["kind"])
    assert number
    assert re.search(
        re.escape(number[1])
        + r" +inexact: a mean and variance are taken over it \(layer_norm, nets/norms.py:\d+\); dropping",
        text,
    )


def test_tied_axes_share_a_letter_and_choices_per_unit_are_marked() -> None:
    graph = graph_of("multihead")
    text = table(graph)
    assert row(text, "attn.in_proj_weight[0]")["units"] == "3x4"
    assert "tie " in text.splitlines()[3]
    assert "axes with the same letter keep the same share of their units" in text
    assert as_dict(graph)["axes"][0]["tied_to"] == ["attn.in_proj_weight[0]", "attn.in_proj_weight[1]"]
    assert as_dict(graph)["axes"][1]["each_of"] == 3


def test_ordinary_reasons_are_one_line() -> None:
    assert (
        frozen_summary(graph_of("plain_cnn"))
        == "always frozen: 4 kernel sizes, 1 spatial size, 1 model input, 2 model outputs"
    )


def test_reasons_are_grouped_most_parameters_first() -> None:
    graph = graph_of("plain_cnn")
    frozen = (
        Frozen("conv1.bias", 0, "a split at nets.py:3 in conv1"),
        Frozen("conv1.weight", 0, "a split at nets.py:3 in conv2"),
        Frozen("conv2.weight", 0, "indexed by data (aten::index, nets.py:9 in conv2)"),
        Frozen("fc.weight", 0, "model output"),
    )
    assert frozen_summary(replace(graph, diagnosis=Diagnosis(frozen))).splitlines() == [
        "frozen, with the share of the parameters that have such a dimension",
        "   63.5 %  1 dimension: indexed by data (aten::index, nets.py:9)",
        "           conv2.weight[0]",
        "   16.5 %  2 dimensions: a split at nets.py:3",
        "           conv1.bias[0], ... and 1 more: graph.why('conv1.bias')",
        "always frozen: 1 model output",
    ]


def test_long_lists_of_reasons_stop() -> None:
    frozen = tuple(Frozen("conv1.bias", 0, f"reason {i}") for i in range(20))
    text = frozen_summary(replace(graph_of("plain_cnn"), diagnosis=Diagnosis(frozen)))
    assert text.splitlines()[-1] == "  ... and 8 more reasons: graph.why('*')"


def test_unknown_ops_come_with_the_lines_that_teach_them() -> None:
    text = table(graph_of("unknown_op"))
    name = NETS["unknown_op"].unknown[0]
    assert f"no rule for {name} (x1); the dimensions they touched are frozen. These lines add one, once its" in text
    assert "  import secateur\n  # (2x5x4) -> 2x5x3. One letter: " in text
    assert f'  secateur.rule("{name}", "a b c -> a b d")' in text


def test_unreached_parameters_are_named_with_the_remedy() -> None:
    text = " ".join(table(graph_of("unused")).split())
    names = ", ".join(NETS["unused"].unreached)
    assert f"parameter tensor{'s' if len(NETS['unused'].unreached) > 1 else ''}" in text
    assert (
        f"of the parameters: {names} they stay as they are; a call that uses them goes in trace(..., calls=[...])"
        in text
    )


def test_a_call_in_training_mode_that_failed_is_no_op() -> None:
    graph = replace(graph_of("plain_cnn"), diagnosis=Diagnosis(untrained="ValueError: targets are missing"))
    assert "training mode was not covered, because a call in it failed: ValueError: targets are missing" in table(graph)
    assert "no rule" not in table(graph)


def test_a_model_without_prunable_axes() -> None:
    text = table(secateur.trace(nn.Linear(4, 2), torch.zeros(1, 4)))
    assert "no prunable axis\n\nalways frozen: 1 model input, 2 model outputs" in text
    assert text.endswith("graph.why('weight') shows what an axis couples, and why a dimension is frozen")


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.up, self.down = nn.Linear(4, width), nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(self.up(x).relu())


def blocks(widths: Any) -> Graph:
    return secateur.trace(nn.Sequential(*map(Block, widths)), torch.zeros(1, 4))


def test_equal_axes_fold_where_there_are_many() -> None:
    few, many = table(blocks([8] * 24)), table(blocks([8] * 25))
    assert "  3.up " in few
    assert "  3.up " not in many
    assert re.search(r"^  \*\.up \(x25\) +8 +3 ", many, re.MULTILINE)
    assert "  * (xN)    N axes whose names differ in one number" in many


def test_long_tables_stop() -> None:
    text = table(blocks(range(2, 2 + ROWS + 34)))
    assert "  ... and 34 more: graph.why('*')" in text


def test_long_names_are_cut_to_initials_and_said_to_be() -> None:
    inner: nn.Module = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
    for _ in range(8):
        inner = nn.ModuleDict({"a_rather_long_name": inner})
    model = nn.Sequential()
    model.long = inner
    model.forward = lambda x: inner_of(inner)(x)  # type: ignore[method-assign]
    text = table(secateur.trace(model, torch.zeros(1, 4)))
    assert re.search(r"^  (l|long)\.a\.a\.[a_]", text, re.MULTILINE)
    assert "long names are cut to initials; graph.axes and graph.why('*') have them whole" in text
    assert "cut to initials" not in table(graph_of("plain_cnn"))


def inner_of(module: nn.Module) -> nn.Module:
    while isinstance(module, nn.ModuleDict):
        module = module["a_rather_long_name"]
    return module


def test_graphs_print_through_their_own_methods() -> None:
    graph = graph_of("plain_cnn")
    assert (str(graph), graph.as_dict()) == (table(graph), as_dict(graph))
    assert str(graph.why("fc")) == str(why(graph, "fc"))


def test_the_table_names_units_that_are_no_channels() -> None:
    text = table(graph_of("grouped_queries"))
    assert [row(text, name)["of"] for name in ("q[0]", "q[2]", "embed")] == ["heads", "head_dims", ""]
    assert "of" not in row(table(graph_of("plain_cnn")), "conv1")
    assert "axis q[0]: 2 heads, exact" in str(graph_of("grouped_queries").why("q"))
