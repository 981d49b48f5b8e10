from __future__ import annotations

import torch

import secateur
from nets import graph_of
from secateur.graph.units import per_unit, positions_by_unit, readers_by_axis, shape_of
from secateur.terms import Axis, PerUnit, Term, cat, product

HEADS, SIZE, OTHER = Axis(2), Axis(3), Axis(4)
OWN = PerUnit(3, HEADS)


def summed(values: list[float], term: Term, axis: Axis) -> list[float]:
    return per_unit(torch.tensor(values), term, axis).tolist()


def test_an_axis_is_its_own_positions() -> None:
    values = torch.randn(4, 5)
    assert per_unit(values, OTHER, OTHER) is values
    assert positions_by_unit(OTHER, OTHER).tolist() == [[0], [1], [2], [3]]


def test_units_of_a_product_lie_in_every_row_or_column() -> None:
    term = product([HEADS, SIZE])
    assert summed([1, 2, 3, 10, 20, 30], term, HEADS) == [6, 60]
    assert summed([1, 2, 3, 10, 20, 30], term, SIZE) == [11, 22, 33]
    assert positions_by_unit(term, HEADS).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert positions_by_unit(term, SIZE).tolist() == [[0, 3], [1, 4], [2, 5]]


def test_parts_of_a_concatenation_without_the_axis_are_left_out() -> None:
    term = cat([OTHER, SIZE, SIZE])
    assert summed([9, 9, 9, 9, 1, 2, 3, 10, 20, 30], term, SIZE) == [11, 22, 33]
    assert positions_by_unit(term, SIZE).tolist() == [[4, 7], [5, 8], [6, 9]]


def test_values_keep_their_other_dimensions() -> None:
    values = torch.arange(12.0).view(6, 2)
    assert per_unit(values, product([HEADS, SIZE]), HEADS).tolist() == [[6.0, 9.0], [24.0, 27.0]]


def test_units_that_each_outer_unit_chooses_are_counted_for_each() -> None:
    term = product([HEADS, OWN])
    assert summed([1, 2, 3, 10, 20, 30], term, OWN) == [[1, 2, 3], [10, 20, 30]]  # type: ignore[comparison-overlap]
    assert positions_by_unit(term, OWN).tolist() == [[0], [1], [2], [3], [4], [5]]
    twice = cat([term, term])
    assert positions_by_unit(twice, OWN).tolist() == [[i, i + 6] for i in range(6)]


def test_an_axis_in_two_places_of_a_product_counts_both() -> None:
    assert positions_by_unit(product([HEADS, OTHER]), OTHER).tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert positions_by_unit(product([cat([SIZE, OTHER]), HEADS]), SIZE).tolist() == [[0, 1], [2, 3], [4, 5]]


def test_shapes_and_readers_of_the_axes_of_a_graph() -> None:
    graph = graph_of("plain_cnn")
    readers = {axis.name: [reader.weight for reader in found] for axis, found in readers_by_axis(graph)}
    assert readers == {"conv1": ["conv2.weight"], "conv2": ["fc.weight"]}
    assert [shape_of(axis) for axis in graph.axes] == [(8,), (12,)]
    own = next(axis for axis in graph_of("tagger").axes if axis.name == "embed")
    assert shape_of(own) == (6,)


def test_every_unit_of_an_axis_has_equally_many_positions_of_a_reader() -> None:
    graph = secateur.trace(
        torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Flatten(), torch.nn.Linear(16, 2)),
        torch.zeros(1, 3, 2, 2),
    )
    ((axis, (reader,)),) = readers_by_axis(graph)
    assert positions_by_unit(reader.channels, axis.term).tolist() == torch.arange(16).view(4, 4).tolist()
