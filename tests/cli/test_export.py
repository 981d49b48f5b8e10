from __future__ import annotations

import runpy
from pathlib import Path

import torch

import secateur as library
from commands import Command
from secateur.models import build_model


def test_the_loader_loads(secateur: Command, small: Path) -> None:
    file = secateur.folder / "loader.py"
    assert secateur("export", small, "--loader", "--out", file) == f"wrote {file}\n"
    assert file.read_text() == secateur("export", small, "--loader")
    load_pruned = runpy.run_path(str(file))["load_pruned"]
    loaded = load_pruned(build_model(secateur.net), small / "model.safetensors").eval()
    expected = library.load(build_model(secateur.net), small / "model.safetensors").eval()
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(loaded(x), expected(x))


def test_json(secateur: Command, small: Path) -> None:
    assert "def load_pruned" in secateur.json("export", small, "--loader")["loader"]


def test_the_loader_is_what_is_exported_unless_another_runtime_is_named(secateur: Command, small: Path) -> None:
    assert secateur("export", small) == secateur("export", small, "--loader")
    assert secateur("export", small, "--to", "loader") == secateur("export", small, "--loader")


def test_an_unknown_runtime(secateur: Command, small: Path) -> None:
    message = secateur.fails("export", small, "--to", "lodaer")
    assert "no runtime 'lodaer'; did you mean 'loader'?" in message
    assert "known: loader" in message
    both = secateur.fails("export", small, "--loader", "--to", "lodaer")
    assert "--loader means --to loader, but --to is lodaer; leave out one of them" in both


def test_no_run(secateur: Command) -> None:
    assert "nowhere is not a run or a file" in secateur.fails("export", "nowhere", "--loader")


def test_a_file_that_cannot_be_written(secateur: Command, small: Path) -> None:
    message = secateur.fails("export", small, "--loader", "--out", "/proc/nowhere/loader.py")
    assert "cannot write /proc/nowhere/loader.py" in message
