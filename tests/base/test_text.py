from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.base.text import NO_BREAK, abbreviated, columns, folded, listed, paged, share, span, wrapped

NAMES = st.lists(
    st.sampled_from([f"b.{i}.{leaf}{j}" for i in range(6) for leaf in "ac" for j in range(3)]), unique=True
)


@given(NAMES)
def test_folding_loses_and_invents_no_name(names: list[str]) -> None:
    folds = folded(names, [0] * len(names))
    assert sorted(place for _, places in folds for place in places) == list(range(len(names)))
    for glob, places in folds:
        assert len(places) == 1 or len(places) >= 3
        assert all(fnmatch.fnmatchcase(names[place], glob) for place in places)


def test_only_names_that_are_alike_fold() -> None:
    names = ["b.0", "b.1", "b.2", "b.3"]
    assert folded(names, [1, 1, 2, 1]) == [("b.*", [0, 1, 3]), ("b.2", [2])]
    assert folded(names, [1, 1, 2, 2]) == [(name, [place]) for place, name in enumerate(names)]


def test_the_number_of_an_axis_of_a_module_never_folds() -> None:
    names = ["qkv[0]", "qkv[1]", "qkv[12]"]
    assert [name for name, _ in folded(names, [0, 0, 0])] == names


@pytest.mark.parametrize("value", [0, 1e-9, 0.0004, 0.5, 0.9994, 0.99951, 1, 1.25])
def test_a_share_is_whole_only_if_it_is(value: float) -> None:
    assert (share(value) == "100 %") == (value == 1)
    assert (share(value) == "0 %") == (value == 0)
    assert not share(value).startswith("100.0")


def test_columns_line_up() -> None:
    lines = columns([["a", "1", "x"], ["bcd", "1234", "y"]], right=[1])
    assert lines == ["a       1  x", "bcd  1234  y"]


def test_lists_stop() -> None:
    assert listed(["a", "b"], 2, "elsewhere") == "a, b"
    assert listed("abc", 2) == "a, b, ... and 1 more"


@pytest.mark.parametrize("width", range(1, 50))
def test_abbreviated_names_keep_their_numbers_and_their_end(width: int) -> None:
    name = "blocks.3.layers.12.window_attention_7.query.weight"
    short = abbreviated(name, width)
    assert re.findall(r"\d+", short) == ["3", "12", "7"]
    assert short.endswith(".weight")
    assert len(short) <= max(width, len("b.3.l.12.w7.q.weight"))
    assert short != name or width >= len(name)


def test_the_name_of_a_row_makes_room_for_the_rest() -> None:
    rows = [["  module.linear", "1" * 20], ["short", "2"]]
    assert paged(rows, page=40)[0] == "  module.linear  " + "1" * 20
    assert paged(rows, page=32)[0] == "  m.linear  " + "1" * 20


@given(st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=30), min_size=1))
def test_wrapping_breaks_no_name(names: list[str]) -> None:
    lines = wrapped("head  ", ", ".join(f"{name}{NO_BREAK}(x3)" for name in names), width=40)
    assert ", ".join(f"{name} (x3)" for name in names) == " ".join(line[6:] for line in lines)
    assert all(len(line) <= 40 or ", " not in line for line in lines)


def test_spans() -> None:
    assert span([2]) == "2"
    assert span([4, 2]) == "2-4"
