"""What the README says is so: its first programs run as they stand, and it names every word of the grammar."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from secateur.planning.selection.rules import SETTINGS
from secateur.planning.selection.selector import FORMS

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
RUN = ("In 30 seconds", "Choosing what is cut")  # sections whose programs need nothing but what stands there
PROGRAMS = [
    program
    for section in README.split("\n## ")
    if section.startswith(RUN)
    for program in re.findall(r"```python\n(.*?)```", section, re.DOTALL)
]


def test_its_programs_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision", reason="needs secateur[vision]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "randn", smaller(torch.randn))
    names: dict[str, Any] = {}
    for program in PROGRAMS:
        exec(program, names)
    assert len(PROGRAMS) == 3
    assert names["r"].plan.axes["conv1"].kept_count == 48


def smaller(randn: Any) -> Any:
    """Images of 64 pixels a side do as well, and do not take as long."""
    return lambda *sizes, **options: randn(*(min(size, 64) for size in sizes), **options)


@pytest.mark.parametrize("word", [*SETTINGS, *FORMS])
def test_it_names_every_word_of_a_rule(word: str) -> None:
    assert re.search(rf"`{word}[=`]", README)
