"""The page of concepts speaks of reasons that the sources give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
ROWS = PAGE.split("## Why something is frozen\n")[1].split("\n## ")[0].splitlines()[3:]
REASONS = [part for row in ROWS for part in re.findall(r"`([^`]+)`", row.split("|")[1])]


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_on_the_page_is_given_by_the_sources(reason: str) -> None:
    fixed = re.sub(r"reshape\(\.\.\., 8\) |aten::foo| at net\.py:7|\.\.\.", "", reason).strip()
    assert fixed in SOURCES
