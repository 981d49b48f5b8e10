from __future__ import annotations

import sys
from pathlib import Path

import pytest

from secateur.errors import FileError, InputError
from secateur.models.functions import check_arguments, load_function

SOURCE = """
import neighbour
from dataclasses import dataclass

@dataclass
class Thing:
    size: int = 3

def build(width=1):
    return neighbour.VALUE + width

number = 5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("VALUE = 40\n")
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def test_a_function_of_a_file_with_neighbours(file: Path) -> None:
    before = list(sys.path)
    assert load_function(f"{file}:build")(width=2) == 42
    assert sys.path == before


def test_an_unchanged_file_is_one_module(file: Path) -> None:
    assert load_function(f"{file}:Thing") is load_function(f"{file}:Thing")


def test_a_changed_file_is_read_again(file: Path) -> None:
    old = load_function(f"{file}:build")
    file.write_text("def build(): return 'new'")
    assert (load_function(f"{file}:build")(), old()) == ("new", 41)


def test_two_files_of_one_name_do_not_clash(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.py").write_text(f"def build(): return {folder!r}")
    assert [load_function(f"{tmp_path}/{folder}/net.py:build")() for folder in ("a", "b")] == ["a", "b"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mine.py", "'mine.py' does not name a function in a file; write path/file.py:function"),
        ("mine.txt:build", "'mine.txt:build' does not name a function in a file"),
        ("{folder}/mine.py:", "does not name a function in a file"),
        ("{folder}/mime.py:build", "no file {folder}/mime.py; did you mean 'mine.py'?"),
        ("{folder}/mine.py:biuld", "{folder}/mine.py does not define 'biuld'; did you mean 'build'?"),
        ("{folder}/mine.py:number", "'number' in {folder}/mine.py is int, not a function"),
    ],
)
def test_what_cannot_be_found(file: Path, spec: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_function(spec.format(folder=file.parent))
    assert message.format(folder=file.parent) in str(caught.value)


@pytest.mark.parametrize(
    ("source", "fact"),
    [("import nosuchthing", "ModuleNotFoundError"), ("def (", "SyntaxError"), ("raise SystemExit(3)", "SystemExit: 3")],
)
def test_a_file_that_fails_leaves_no_module(tmp_path: Path, source: str, fact: str) -> None:
    (tmp_path / "bad.py").write_text(source)
    before = set(sys.modules)
    with pytest.raises(FileError, match=f"bad.py fails while loading: {fact}"):
        load_function(f"{tmp_path}/bad.py:build")
    assert set(sys.modules) == before


def test_arguments_are_checked_before_the_call() -> None:
    def build(num_classes: int, width: int = 3) -> None: ...

    check_arguments(build, {"num_classes": 2}, "net.py:build")
    with pytest.raises(InputError, match=r"net.py:build: .*'num_clases'.* did you mean 'num_classes'\?"):
        check_arguments(build, {"num_clases": 2, "num_classes": 2}, "net.py:build")
