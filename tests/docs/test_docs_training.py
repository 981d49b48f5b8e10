"""What docs/training.md says runs: the programs of each section, one after the other, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
SECTIONS = {
    section.splitlines()[0]: re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for section in PAGE.split("\n## ")[1:]
    if "```python" in section
}
NEEDS = {
    "The optimizer follows": ("transformers", "accelerate", "lightning.pytorch"),
    "The trainer": ("accelerate", "tensorboard"),
}


@pytest.mark.parametrize("section", SECTIONS)
def test_its_programs_run(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in NEEDS.get(section, ()):
        pytest.importorskip(package, exc_type=ImportError)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__page__"}
    for program in SECTIONS[section]:
        exec(program, names)
    assert SECTIONS[section]


def test_no_program_is_left_out() -> None:
    assert sum(map(len, SECTIONS.values())) == PAGE.count("```python")
    assert {"Sparsity training", "Schedules and the loop", "The optimizer follows", "The trainer"} <= set(SECTIONS)


def test_every_schedule_and_penalty_is_named() -> None:
    from secateur.train import penalties, schedules

    for name in [*schedules.SCHEDULES, *(kind.__name__ for kind in penalties.PENALTIES.values()), "GrowingL2"]:
        assert f"`{name}" in PAGE
