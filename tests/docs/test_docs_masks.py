"""What docs/masks.md says runs: its programs, one after the other, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from secateur.masks.criteria import CRITERIA
from secateur.masks.patterns import PATTERNS
from secateur.masks.sparsify import SCOPES

PAGE = (Path(__file__).parents[2] / "docs" / "masks.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_its_programs_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__page__"}
    for program in PROGRAMS:
        exec(program, names)
    assert len(PROGRAMS) == 8


@pytest.mark.parametrize("word", [*SCOPES, *CRITERIA, *PATTERNS])
def test_every_word_is_named(word: str) -> None:
    assert f'`"{word}"`' in PAGE
