"""What CONTRIBUTING.md says runs: the program of each extension point, from beginning to end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from secateur.cost.kinds import KINDS
from secateur.export.runtimes import RUNTIMES
from secateur.importance import CRITERIA
from secateur.recipes import RECIPES
from secateur.trace.registry import ATEN

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PROGRAMS = {
    section.splitlines()[0].removeprefix("How to add "): re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for section in PAGE.split("\n## ")
    if section.startswith("How to add ")
}


def names() -> list[list[str]]:
    return [list(table) for table in (KINDS, RUNTIMES, CRITERIA, RECIPES, ATEN)]


@pytest.mark.parametrize("what", PROGRAMS)
def test_its_program_runs_and_takes_its_row_out_again(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = names()
    (program,) = PROGRAMS[what]
    exec(program, {"__name__": "__page__"})
    assert names() == before


def test_every_extension_point_has_one() -> None:
    assert list(PROGRAMS) == ["an op", "a criterion", "a target kind", "a runtime", "a recipe", "a front-end"]
    assert PAGE.count("```python") == len(PROGRAMS)


@pytest.mark.parametrize("path", sorted({*re.findall(r"`((?:src|tests)/[\w/]+(?:\.py|/))`", PAGE)}))
def test_a_path_that_it_names_is_there(path: str) -> None:
    assert (ROOT / path).exists()
