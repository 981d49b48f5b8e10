"""Strands run in turn, hand events out, take answers, and end when told to."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from secateur.recover.coroutines import Strand


def counting(log: list[str], name: str) -> Any:
    def body(pause: Any) -> str:
        for i in range(3):
            log.append(f"{name}{i}")
            log.append(f"{name}:{pause(i)}")
        return name

    return body


def test_strands_run_only_when_told_to_and_take_answers() -> None:
    log: list[str] = []
    a, b = Strand(counting(log, "a")), Strand(counting(log, "b"))
    assert log == []
    a.advance()
    b.advance()
    assert log == ["a0", "b0"]
    assert (a.event, b.event) == (0, 0)
    a.advance("x")
    assert log == ["a0", "b0", "a:x", "a1"]
    assert a.event == 1
    a.advance("y")
    a.advance("z")
    assert a.done
    assert a.result == "a"
    assert a.event is None
    assert not b.done
    b.close()
    assert b.done
    assert b.result is None


def test_what_a_strand_raises_is_raised_where_it_was_advanced() -> None:
    def body(pause: Any) -> None:
        pause("here")
        raise ValueError("no")

    strand = Strand(body)
    strand.advance()
    with pytest.raises(ValueError, match="no"):
        strand.advance()
    assert strand.done
    strand.close()


def test_a_closed_strand_is_unwound_and_leaves_no_thread() -> None:
    before, unwound = threading.active_count(), []

    def body(pause: Any) -> None:
        try:
            pause(1)
        finally:
            unwound.append(True)

    strand = Strand(body)
    strand.advance()
    strand.close()
    assert unwound == [True]
    assert threading.active_count() == before
