from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import secateur
from secateur.errors import InputError
from secateur.graph.blocks import block_of, counts_by_axis, units, without
from secateur.graph.graph import Graph

X = torch.zeros(2, 6)


class Block(nn.Module):
    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.a, self.b, self.scale = nn.Linear(8, 5), nn.Linear(5, 8), scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.b(self.a(x).relu())


def graph() -> Graph:
    """A linear layer, three residual blocks on its eight units, and a linear layer."""
    return secateur.trace(nn.Sequential(nn.Linear(6, 8), Block(), Block(2.0), Block(), nn.Linear(8, 3)), X)


def test_what_lies_in_a_block_is_left_out() -> None:
    whole = graph()
    rest = without(whole, ["2"])
    assert [axis.name for axis in rest.axes] == [axis.name for axis in whole.axes if axis.name != "2.a"]
    assert {name for name in whole.sites if name.startswith("2.")} == whole.sites.keys() - rest.sites.keys()
    assert all(use.name in rest.sites for axis in rest.axes for use in axis.sites)
    assert set(rest.reduced.removed) == {"2"}
    assert [ghost.name for ghost in rest.reduced.ghosts] == ["2.a"]
    assert [axis.group for axis in rest.axes] == [i for i, group in enumerate(rest.groups) for _ in group.axes]


def test_costs_are_those_of_the_model_without_the_block() -> None:
    shorter = nn.Sequential(nn.Linear(6, 8), Block(), Block(), nn.Linear(8, 3))
    expected = secateur.trace(shorter, X)
    rest = without(graph(), ["2"])
    after = rest.totals_at(rest.cost.full)
    assert (after.params, after.macs) == (expected.totals.params, expected.totals.macs)
    assert rest.reduced.whole == graph().totals


def test_without_no_block_the_graph_is_the_same() -> None:
    whole = graph()
    assert without(whole, []) is whole


def test_counts_are_given_to_the_axes_in_order() -> None:
    whole = graph()
    rest = without(whole, ["2"])
    counts = [axis.size - 1 for axis in rest.axes]
    found = counts_by_axis(rest, counts)
    assert [found[axis.term] for axis in rest.axes] == counts


def test_blocks_that_must_stay_or_do_not_exist_are_refused() -> None:
    whole = graph()
    assert block_of(whole, "2").name == "2"
    with pytest.raises(InputError, match="'9' is not a block that can be bypassed"):
        block_of(whole, "9")
    with pytest.raises(InputError, match="'4' is not a block that can be bypassed"):
        without(whole, ["2", "4"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a.x"], ["a"]),
        (["a", "a.x", "a.y"], ["a.x", "a.y"]),
        (["a.0", "a.0.x", "a.0.y", "a.1"], ["a.0.x", "a.0.y", "a.1"]),
        (["a", "a.0", "a.0.x", "a.0.y"], ["a.0.x", "a.0.y"]),
        ([], []),
    ],
)
def test_chains_count_as_their_members(names: list[str], expected: list[str]) -> None:
    assert units(names) == expected
