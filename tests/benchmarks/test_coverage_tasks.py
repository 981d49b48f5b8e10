"""A survey that is resumed runs what is missing, and what is asked for again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import coverage


def test_the_last_line_of_a_model_and_side_counts(tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    rows = [{"name": "hf:a", "side": "ours", "verdict": verdict} for verdict in ("timeout", "right")]
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert coverage.read(lines) == {("hf:a", "ours"): rows[1]}
    assert coverage.read(tmp_path / "none.jsonl") == {}


def test_tasks_are_side_by_side_without_what_is_done() -> None:
    tasks = coverage.tasks_of(["hf:a", "hf:b"], coverage.SIDES, [("hf:a", "theirs")])
    assert tasks == ["ours hf:a", "race hf:a", "ours hf:b", "theirs hf:b", "race hf:b"]


@pytest.mark.parametrize(("verdict", "fails"), [("crash", True), ("over 60 s", True), ("right", False)])
def test_theirs_is_not_timed_where_it_is_known_to_fail(tmp_path: Path, verdict: str, fails: bool) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text(json.dumps({"name": "hf:a", "side": "theirs", "verdict": verdict}))
    assert coverage._theirs_fails("hf:a", lines) is fails
