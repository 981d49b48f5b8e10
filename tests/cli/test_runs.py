from __future__ import annotations

from pathlib import Path

import pytest

from secateur.cli.runs import Original, staged
from secateur.errors import FileError, InputError


def fail_in(out: Path, error: type[BaseException]) -> None:
    with staged(out) as folder:
        (folder / "run.json").write_text("new")
        raise error


def test_everything_moves_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    with staged(out) as folder:
        (folder / "run.json").write_text("1")
        (folder / "model.safetensors").write_text("2")
        assert [path.name for path in out.iterdir()] == [folder.name]
    assert {path.name: path.read_text() for path in out.iterdir()} == {"run.json": "1", "model.safetensors": "2"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_a_failure(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        fail_in(tmp_path / "a" / "b", error)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("old")
    with pytest.raises(ValueError):
        fail_in(tmp_path, ValueError)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"run.json": "old"}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(FileError, match=r"--out .*/file/run cannot be written: Not a directory"),
        staged(tmp_path / "file" / "run"),
    ):
        pytest.fail("entered")


def test_sources_are_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds the weights that are read"), staged(tmp_path, tmp_path / "w.pt"):
        pytest.fail("entered")


def test_a_digest_knows_its_file(tmp_path: Path) -> None:
    file = tmp_path / "w"
    file.write_bytes(b"weights")
    original = Original.of(file)
    original.check()
    file.write_bytes(b"weighty")
    with pytest.raises(FileError, match="have changed"):
        original.check()


def test_what_cannot_be_written_is_told_of_the_folder_that_was_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FileError, match=f"cannot write {out}/model.safetensors"), staged(out) as at:
        raise FileError(f"cannot write {at}/model.safetensors")
