"""Writes files atomically, and reads and writes safetensors files."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from secateur.base.paths import PathLike, path_of
from secateur.errors import FileError, InputError, nearest


def save_json(path: PathLike, text: str) -> None:
    """Write text to a file atomically. Raises `InputError` for a path that cannot be written to.

    >>> save_json("nowhere/report.json", "{}")
    Traceback (most recent call last):
        ...
    secateur.errors.InputError: cannot write nowhere/report.json: there is no folder nowhere
    make it first (mkdir -p nowhere), or write to another one
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_tensors(path: PathLike, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write named tensors and metadata strings to a safetensors file atomically.

    Raises `InputError` for a path that cannot be written to.
    """
    with replacing(path) as temporary:
        write_tensors({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, dict(metadata))


def read_tensors(path: PathLike) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and metadata of a safetensors file. Raises `FileError` where it is missing or damaged."""
    with opened_tensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy tensors that share memory with another one, because a safetensors file stores each tensor separately."""
    seen: set[tuple[torch.device, int]] = set()
    apart: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        memory = (tensor.device, tensor.untyped_storage().data_ptr())
        apart[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return apart


@contextmanager
def opened_tensors(path: PathLike) -> Iterator[Any]:
    """Open the safetensors file at a path. Raises `FileError` where there is none or it cannot be read."""
    from safetensors import safe_open

    file = path_of(path)
    if file.is_dir():
        raise FileError(f"{path} is a folder\nname the file in it, such as {file / 'model.safetensors'}")
    if not file.is_file():
        near = nearest(file.name, (other.name for other in file.parent.glob("*")))
        raise FileError(f"no file {path}{near}")
    try:
        opened = safe_open(file, framework="pt")
    except Exception as error:  # a damaged file can raise almost any error
        raise FileError(
            f"{path} ({file.stat().st_size:,} bytes) cannot be read: {type(error).__name__}: {error}\n{_cause(file)}"
        ) from error
    with opened as content:
        yield content


def _cause(file: Path) -> str:
    """Return why a file cannot be read, and what to do."""
    with file.open("rb") as stream:
        head = stream.read(4)
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return (
            "cause: it is a pickle, as torch.save writes it, and could run code; only safetensors files are read\n"
            "fix:   if it is the state dict of a pruned model, cut the original by the plan and load it there:\n"
            f"       model = secateur.cut(build(), plan); model.load_state_dict(torch.load({file.name!r}))"
        )
    return (
        "cause: it is truncated, damaged, or not a safetensors file\n"
        "fix:   copy it again, or save the model again with secateur.save"
    )


def write_tensors(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:  # it opens the file itself and wraps system errors
        raise OSError(str(error)) from error
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"these tensors cannot be stored as safetensors: {type(error).__name__}: {error}") from error


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Yield a temporary file next to `path`, which replaces `path` at the end; on an error it is removed."""
    target = path_of(path)
    if target.is_dir():
        raise InputError(
            f"cannot write {path}: it is a folder\nname a file in it, such as {target / 'model.safetensors'}"
        )
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.touch(exist_ok=False)
        rights = temporary.stat().st_mode
        yield temporary
        temporary.chmod(rights)  # safetensors replaces the file with a new one
        _flush(temporary)
        temporary.replace(target)
        with suppress(OSError):  # not every system allows a folder to be flushed
            _flush(target.parent)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _flush(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _unwritable(target: Path, error: OSError) -> InputError:
    folder = target.parent
    if not folder.exists():
        fact, remedy = f"there is no folder {folder}", f"make it first (mkdir -p {folder}), or write to another one"
    elif not folder.is_dir():
        fact, remedy = f"{folder} is a file, not a folder", "write to a folder"
    elif isinstance(error, PermissionError):
        fact, remedy = (
            f"the folder {folder} is not writable",
            f"change its rights (chmod u+w {folder}), or write to another one",
        )
    else:
        fact, remedy = f"{error.strerror or error}", f"make room in {folder}, or write to another folder"
    return InputError(f"cannot write {target}: {fact}\n{remedy}")
