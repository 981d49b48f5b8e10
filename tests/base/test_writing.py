"""Files are written whole or not at all, and reading says what is wrong with a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from secateur.base.writing import apart, read_tensors, replacing, save_json, save_tensors, write_tensors
from secateur.errors import FileError, InputError


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 2).t(), "b": torch.tensor([1, 2])}
    save_tensors(tmp_path / "t.safetensors", tensors, {"format": "1"})
    read, metadata = read_tensors(tmp_path / "t.safetensors")
    assert metadata == {"format": "1"}
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert [path.name for path in tmp_path.iterdir()] == ["t.safetensors"]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    save_json(path, "old")

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["report.json"]


def test_a_file_has_the_rights_that_any_new_file_has(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    save_tensors(tmp_path / "t.safetensors", {"a": torch.ones(1)}, {})
    assert (tmp_path / "t.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_shared_memory_is_copied_once(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    found = apart({"a": whole, "b": whole[2:], "c": torch.ones(2)})
    assert found["a"] is whole
    assert found["b"].untyped_storage().data_ptr() != whole.untyped_storage().data_ptr()
    assert torch.equal(found["b"], whole[2:])
    save_tensors(tmp_path / "t.safetensors", found, {})


def test_what_safetensors_cannot_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="these tensors cannot be stored as safetensors"):
        write_tensors({"a": torch.ones(2), "b": 3}, tmp_path / "t", {})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"PK\x03\x04 and more", "it is a pickle"),
        (b"\x80\x02 and more", "it is a pickle"),
        (b"nothing of the kind", "it is truncated, damaged, or not a safetensors file"),
        (b"", "it is truncated, damaged, or not a safetensors file"),
    ],
)
def test_what_cannot_be_read_has_a_cause(content: bytes, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileError, match=cause) as caught:
        read_tensors(path)
    assert str(path) in str(caught.value)
    assert f"({len(content)} bytes)" in str(caught.value)


def test_a_missing_file_names_the_one_that_is_meant(tmp_path: Path) -> None:
    save_tensors(tmp_path / "small.safetensors", {}, {})
    with pytest.raises(FileError, match=r"no file .*smal.safetensors; did you mean 'small.safetensors'"):
        read_tensors(tmp_path / "smal.safetensors")
    with pytest.raises(FileError, match="is a folder"):
        read_tensors(tmp_path)


def test_places_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, fact in {
        tmp_path: "it is a folder",
        tmp_path / "none" / "report.json": "there is no folder",
        tmp_path / "file" / "report.json": "is a file, not a folder",
    }.items():
        with pytest.raises(InputError, match=f"cannot write .*: .*{fact}"):
            save_json(path, "{}")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_rights(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="is not writable"):
            save_json(tmp_path / "report.json", "{}")
    finally:
        tmp_path.chmod(0o700)
