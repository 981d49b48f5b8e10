"""The page of the survey: totals count every model, exceptions are named with their reasons, ratios are of both."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from survey import page

GOOD = {"verdict": "right", "params": 10**6, "params_left": 0.5, "macs_left": 0.4, "silence": 1e-15, "permutation": 0.0}
THEIRS = {"verdict": "right", "params_left": 0.6}
LINES: dict[tuple[str, str], dict[str, Any]] = {
    ("timm:a", "ours"): GOOD,
    ("timm:a", "theirs"): THEIRS,
    ("timm:a", "race"): {"ours_seconds": 0.1, "theirs_seconds": 0.6},
    ("timm:b", "ours"): GOOD | {"params_left": 0.9, "frozen": [["no rule for aten::foo (bar.py:1)", 0.4]]},
    ("timm:b", "theirs"): {"verdict": "no run", "params_left": 0.6, "error": "RuntimeError: shapes"},
    ("timm:b", "race"): {"ours_seconds": 0.1, "theirs_seconds": 0.2},
    ("hf:c", "ours"): GOOD | {"verdict": "wrong", "silence": 0.3},
    ("hf:d", "ours"): {"verdict": "refused", "error": "InputError: the fact\nthe fix\nmore"},
    ("hf:e", "ours"): GOOD,
    ("hf:e", "theirs"): THEIRS | {"verdict": "wrong"},
    ("hf:e", "race"): {"ours_seconds": 0.4, "theirs_seconds": 0.2},
}
FAMILIES = {"timm:a": "one", "timm:b": "one", "hf:c": "c", "hf:d": "d", "hf:e": "e", "hf:never run": "f"}


def written() -> str:
    return page.text(json.loads(json.dumps(page.gathered(LINES, FAMILIES, "python benchmarks/coverage.py"))))


def cells(heading: str, row: str) -> list[str]:
    """One row of the table under a heading."""
    section = written().split(f"## {heading}\n")[1].split("\n## ")[0]
    line = next(line for line in section.splitlines() if line.startswith(f"| {row} "))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_totals_count_every_model_that_was_run() -> None:
    assert cells("Totals", "timm") == ["2", "2", "0", "0", "0", "0", "0", "1 (50.0%)"]
    assert cells("Totals", "Hugging Face transformers") == ["3", "1", "1", "0", "1", "0", "0", "1 (33.3%)"]
    assert cells("Totals", "all") == ["5", "3", "1", "0", "1", "0", "0", "2 (40.0%)"]


def test_every_exception_is_named_with_its_reason() -> None:
    section = written().split("## Exceptions\n")[1].split("\n## ")[0]
    assert "**timm:b**, 90.0% left: 40% of the parameters by `no rule for aten::foo (bar.py:1)`" in section
    assert "**hf:c**, wrong: silence 3e-01, permutation 0e+00" in section
    assert "**hf:d**, refused: InputError: the fact the fix" in section
    assert "timm:a" not in section
    assert "hf:e" not in section


def test_time_is_compared_where_both_cut_models_run_and_the_slower_is_named() -> None:
    section = written().split("## Time\n")[1].split("\n## ")[0]
    assert "On the 2 models that both can cut and run, the median of their time over ours is **3.2**" in section
    assert "slower on 1: hf:e (0.50)" in section


def test_their_table_counts_verdicts() -> None:
    assert cells("Torch-Pruning on the same models", "all") == ["3", "1", "1", "1", "0", "0", "0", "1 (33.3%)"]


def test_a_model_has_its_row() -> None:
    row = cells("timm", "one")
    assert row == ["a", "1.00 M", "right", "50%", "40%", "1e-15", "0.10", "right", "60%", "0.60"]


def test_what_was_measured_of_the_other_tool_stays_with_its_machine() -> None:
    earlier = page.gathered(LINES, FAMILIES, "python benchmarks/coverage.py") | {"machine": {"cores": 7}}
    ours = {key: line for key, line in LINES.items() if key[1] == "ours"}
    found = page.gathered(ours, FAMILIES, "python benchmarks/coverage.py", earlier)
    assert found["models"]["timm:a"]["theirs"] == THEIRS
    assert found["models"]["timm:a"]["race"] == {"ours_seconds": 0.1, "theirs_seconds": 0.6}
    assert found["beside"] == {"cores": 7}
    again = page.gathered(ours, FAMILIES, "python benchmarks/coverage.py", found)
    assert again["beside"] == {"cores": 7}
    assert page.gathered(LINES, FAMILIES, "python benchmarks/coverage.py", found).get("beside") is None


def test_what_keeps_least_is_named() -> None:
    """The fixture's models keep enough; one that does not, and of which nobody knows why, says so."""
    assert "## Least left" not in written()
    lines = LINES | {("timm:a", "ours"): GOOD | {"params_left": 0.3}}
    text = page.text(json.loads(json.dumps(page.gathered(lines, FAMILIES, "python benchmarks/coverage.py"))))
    assert "- **timm:a**, 30.0% left: no reason is known." in text


def test_every_model_that_keeps_least_has_its_reason() -> None:
    models = json.loads(page.DATA.read_text())["models"]
    assert {n for n, m in models.items() if m["ours"].get("params_left", 1) < page.LEAST} <= set(page.WHY_LESS)


def test_the_committed_page_is_what_the_script_writes_from_the_committed_figures() -> None:
    assert page.PAGE.read_text() == page.text(json.loads(page.DATA.read_text()))
