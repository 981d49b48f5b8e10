"""A recipe of another package: one module, and one row in the table of recipes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import Command
from secateur.errors import InputError
from secateur.recipes import RECIPES, load_recipe

MODULE = "toy_recipes.halves"
SOURCE = '''
"""Half of a small network goes.

It takes a second.
"""

from typing import Annotated

import torch
from typer import Option

import secateur
from secateur.recipes.framework import Options, Result, Row

NAME = "halves"
SOURCE = "Nobody, 1999"


def run(options: Options, *, share: Annotated[float, Option(min=0.0, help="The share that stays.")] = 0.5) -> Result:
    torch.manual_seed(options.seed)
    net, x = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)), torch.zeros(1, 4)
    small = secateur.prune(net, x, f"channels={share}").model
    counts = {name: secateur.count(model, x) for name, model in (("dense", net), ("half", small))}
    rows = [Row(name, found.params, found.macs, {}) for name, found in counts.items()]
    return Result(NAME, "a half is smaller", "no data", tuple(rows))
'''


@pytest.fixture(autouse=True)
def halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package = tmp_path / "toy_recipes"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "halves.py").write_text(SOURCE.lstrip())
    monkeypatch.syspath_prepend(tmp_path)
    RECIPES["halves"] = MODULE
    yield
    del RECIPES["halves"]
    for name in (MODULE, "toy_recipes"):
        sys.modules.pop(name, None)


def test_it_is_listed_without_being_imported(command: Command) -> None:
    text = command("recipe", "--help")
    assert "halves " in text
    assert "Half of a small network goes." in text
    assert MODULE not in sys.modules


def test_it_runs(command: Command) -> None:
    found = command.json("recipe", "halves", "--share", 0.25, "--seed", 1, "--out", command.folder / "out")
    assert (found["recipe"], found["claim"], found["seed"]) == ("halves", "a half is smaller", 1)
    assert [(row["method"], row["params"]) for row in found["rows"]] == [("dense", 58), ("half", 16)]
    assert (command.folder / "out" / "result.json").exists()
    assert command("recipe", "halves").splitlines()[-1].split() == ["half", "30", "24"]


def test_its_help(command: Command) -> None:
    text = command("recipe", "halves", "--help")
    assert "Source: Nobody, 1999" in text
    assert "The share that stays." in text
    assert "--quick" in text


def test_names_like_its_own(command: Command) -> None:
    assert "Did you mean 'halves'?" in command.fails("recipe", "halvess")
    with pytest.raises(InputError, match=r"did you mean 'halves'\?\nknown: .*, modnet, halves"):
        load_recipe("halvess")


def test_a_second_one_of_its_name_raises() -> None:
    with pytest.raises(ValueError, match="two recipes named halves"):
        RECIPES["halves"] = MODULE


def test_without_its_row_it_is_gone(command: Command) -> None:
    module = RECIPES.pop("halves")
    try:
        assert "halves" not in command("recipe", "--help")
    finally:
        RECIPES["halves"] = module
