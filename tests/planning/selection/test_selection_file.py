"""Selections in files say what they say in Python, and nothing twice."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from secateur import FileError, InputError, Select

YAML = """
select:
  - {match: "layer4.*", keep: 0.5}
  - type=Linear: floor=16 align=8
  - match: ["*.attn", "*.mlp"]
    prune: [heads, head_dims]
  - head: protect
protect: [stem]
floor: 0.2
widths: {conv1: 48}
"""
JSON = """{"select": [{"match": "layer4.*", "keep": 0.5}, "type=Linear: floor=16 align=8",
    {"match": ["*.attn", "*.mlp"], "prune": "heads,head_dims"}, "head: protect"],
    "protect": "stem", "floor": 0.2, "widths": {"conv1": 48}}"""
RULES = ["layer4.*: keep=0.5", "type=Linear: floor=16 align=8", "*.attn, *.mlp: prune=heads,head_dims", "head: protect"]


@pytest.mark.parametrize(("name", "text"), [("s.yaml", YAML), ("s.YML", YAML), ("s.json", JSON)])
def test_a_file_says_what_python_says(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert Select.read(tmp_path / name) == Select(rules=RULES, protect="stem", floor=0.2, widths={"conv1": 48})


def test_a_list_of_rules_is_enough(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("- layer4.*: keep=0.5\n")
    assert Select.read(tmp_path / "s.yaml") == Select.of("layer4.*: keep=0.5")


WRONG = {
    "empty.yaml": ("", "holds nothing\nwrite a list of rules"),
    "none.yaml": ("[]", "holds []\nwrite a list of rules"),
    "word.yaml": ("layer4", "holds 'layer4'\nwrite a list"),
    "alias.yaml": ("- match: *.attn\n  keep: 0.5\n", "quote any string that begins with a *, as in match: '*.attn'"),
    "twice.yaml": ("floor: 0.1\nfloor: 0.2\n", "'floor' is set twice; keep one"),
    "twice.json": ('{"floor": 0.1, "floor": 0.2}', "'floor' is set twice; keep one"),
    "code.yaml": ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
    "list.yaml": ("? [a, b]\n: 1\n", "cannot be read: unhashable type: 'list'"),
    "cut.json": ('{"select": [', "cannot be read: Expecting value"),
    "binary.json": ("\x00\x01", "cannot be read"),
    "deep.json": ("[" * 100_000, "cannot be read: "),
    "typo.yaml": ("selct: []\n", "typo.yaml: a selection has no option 'selct'; did you mean 'select'"),
    "rule.yaml": ("- {match: a, kep: 0.5}\n", "no setting is named 'kep'; did you mean 'keep'?"),
    "rules.toml": ("select = []", "its name must end in one of .yaml, .yml, .json"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_selection(tmp_path: Path, name: str) -> None:
    text, message = WRONG[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        Select.read(tmp_path / name)
    assert name in str(caught.value)


def test_a_missing_file_has_near_ones(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(YAML)
    with pytest.raises(FileError, match=r"no file .*rule\.yaml; did you mean 'rules\.yaml'\?"):
        Select.read(tmp_path / "rule.yaml")


def test_without_pyyaml_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.yaml").write_text(YAML)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(FileError, match=re.escape("pip install 'secateur[yaml]', or write the same as .json")):
        Select.read(tmp_path / "s.yaml")
