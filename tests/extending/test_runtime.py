"""A runtime of another package: one function from a saved file to text, and one row in the table of runtimes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import secateur
from commands import HALF, SHAPE, Command
from secateur.export.runtimes import RUNTIMES, exported
from secateur.files.model_file import read_plans


def widths(path: Path) -> str:
    """The number of units of each axis, as JSON."""
    return json.dumps({name: axis.kept_count for plan in read_plans(path) for name, axis in plan.axes.items()})


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    RUNTIMES["toy"] = widths
    yield
    del RUNTIMES["toy"]


@pytest.fixture
def small(command: Command) -> Path:
    out = command.folder / "small"
    command("prune", command.net, *SHAPE, *HALF, "--out", out)
    return out


def test_the_command_line_exports_to_it(command: Command, small: Path) -> None:
    text = command("export", small, "--to", "toy")
    assert json.loads(text).keys() == {"conv1", "conv2"}
    assert 0 < json.loads(text)["conv1"] < 12
    assert command.json("export", small, "--to", "toy") == {"toy": text.rstrip("\n")}
    file = command.folder / "widths.json"
    assert command("export", small, "--to", "toy", "--out", file) == f"wrote {file}\n"
    assert file.read_text() == text.rstrip("\n")


def test_python_exports_to_it(small: Path) -> None:
    assert exported(small / "model.safetensors", to="toy") == widths(small / "model.safetensors")


def test_it_is_listed(command: Command, small: Path) -> None:
    assert ": loader, toy." in " ".join(command("export", "--help").replace("│", " ").split())
    message = command.fails("export", small, "--to", "tooy")
    assert "no runtime 'tooy'; did you mean 'toy'?" in message
    assert "known: loader, toy" in message


def test_a_second_one_of_its_name_raises() -> None:
    with pytest.raises(ValueError, match="two runtimes named toy"):
        RUNTIMES["toy"] = widths


def test_what_it_raises_is_reported(command: Command, small: Path) -> None:
    def refuses(path: Path) -> str:
        raise secateur.InputError("toys are for children\nexport to loader")

    RUNTIMES["none"] = refuses
    try:
        assert "toys are for children" in command.fails("export", small, "--to", "none")
    finally:
        del RUNTIMES["none"]
