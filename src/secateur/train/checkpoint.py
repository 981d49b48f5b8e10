"""Checkpoints of a training: an interrupted run resumes from the last one, and ends with the same weights.

A checkpoint is a folder `step-000000120` with `model.safetensors` (weights and plans, as `secateur.save` stores them),
`state.safetensors` (optimizer, random generators, position: tensors, and the rest as JSON in its metadata) and
`checkpoint.json` (the identity of the run, and the SHA-256 of both files). It is written under a temporary name and
then renamed, so it is complete or absent; older ones are deleted afterwards. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.anatomy.masked import masked_names, worn
from secateur.anatomy.masked_names import plain_slots
from secateur.base.paths import PathLike, path_of
from secateur.base.text import columns, first_line
from secateur.base.writing import read_tensors, save_json, save_tensors
from secateur.errors import FileError, InputError
from secateur.files.model_file import ALIASES, save
from secateur.files.stored_masks import taken_out, unpacked
from secateur.train.number_options import check_whole
from secateur.train.packing import pack, unpack

FORMAT = 1
MODEL, STATE, HEAD = "model.safetensors", "state.safetensors", "checkpoint.json"
PREFIX, ASIDE = "step-", ".writing-"


@dataclass(frozen=True, slots=True)
class Checkpointing:
    """Where and how often checkpoints are written. If the folder has checkpoints of the same run, training resumes.

    Attributes:
        folder: The folder of the checkpoints of one run.
        every: The number of optimizer steps between checkpoints. Default: 100.
        keep: How many checkpoints to keep, the newest. Default: 2.
        about: Further strings that identify the run, by name, such as a hash of its data. Default: {}.
        going_on: A function that is called with the step that training resumes from. Default: None.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> Checkpointing("run/checkpoints", every=500).keep
        2
    """

    folder: PathLike
    every: int = 100
    keep: int = 2
    about: Mapping[str, str] = field(default_factory=dict)
    going_on: Callable[[int], None] | None = None

    def __post_init__(self) -> None:
        for name in ("every", "keep"):
            check_whole(name, getattr(self, name), lambda n: n >= 1, "it must be at least 1")

    @staticmethod
    def of(checkpoint: Checkpointing | None) -> Checkpointing | None:
        """Return the argument. Raises `InputError` if it is of another type, such as the path of a folder."""
        if checkpoint is None or isinstance(checkpoint, Checkpointing):
            return checkpoint
        raise InputError(f"checkpoint is {checkpoint!r}; write Checkpointing({str(checkpoint)!r}, every=100)")

    def opened(self, run: Mapping[str, str]) -> Checkpoints:
        """Open the folder for the run with this identity.

        Args:
            run: Strings by name that identify the run.

        Returns:
            The checkpoints of the run.

        Raises:
            FileError: The folder cannot be written to.
        """
        store = Checkpoints(self, {**self.about, **run})
        try:
            store.folder.mkdir(parents=True, exist_ok=True)
            Path(tempfile.mkdtemp(prefix=ASIDE, dir=store.folder)).rmdir()  # fail now, not at the first checkpoint
        except OSError as error:
            raise FileError(
                f"no checkpoints can be written to {self.folder}: {error.strerror}; give another folder"
            ) from error
        for left in store.folder.glob(f"{ASIDE}*"):  # of a run that was killed while it was writing
            shutil.rmtree(left, ignore_errors=True)
        return store


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint that was read. `state`: what the training stored."""

    folder: Path
    state: Any

    @property
    def step(self) -> int:
        """The number of steps that were done, from the name of the folder."""
        return _step_of(self.folder)

    @property
    def model(self) -> Path:
        """The path of the file with weights and plans."""
        return self.folder / MODEL

    def put_weights(self, model: nn.Module) -> None:
        """Copy weights and masks into a model of the same structure; its parameters remain the same objects."""
        tensors, metadata = read_tensors(self.model)
        aliases: dict[str, str] = json.loads(metadata[ALIASES])
        masks = taken_out(tensors, metadata)
        with torch.no_grad():
            for slot in plain_slots(model, masked_names(model)):
                stored = tensors.get(aliases.get(slot.name, slot.name))
                if stored is not None:
                    slot.tensor.copy_(stored)
            for name, one in worn(model).items():
                one.mask.mask.copy_(unpacked(masks[name].bits, tuple(one.mask.mask.shape)))


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one run. `run`: strings by name that identify it."""

    settings: Checkpointing
    run: Mapping[str, str]

    @property
    def folder(self) -> Path:
        return path_of(self.settings.folder)

    def due(self, step: int) -> bool:
        """Return whether a checkpoint is to be written after this step."""
        return step % self.settings.every == 0

    def newest(self) -> Saved | None:
        """Read the last checkpoint that is intact; None if there are no checkpoints.

        A damaged one is skipped with a warning. Raises `FileError` if it belongs to another run, or none can be read.
        """
        found, trouble = self._found()[::-1], ""
        for folder in found:
            try:
                saved = self._read(folder)
            except _DamagedError as error:
                trouble = f"{folder} cannot be read: {error}"
                warnings.warn(f"{trouble}; trying the one before it", stacklevel=2)
            else:
                if self.settings.going_on is not None:
                    self.settings.going_on(saved.step)
                return saved
        if found:
            raise FileError(f"no checkpoint in {self.folder} can be read\n{trouble}\ndelete the folder to start over")
        return None

    def write(self, step: int, model: nn.Module, state: Any) -> None:
        """Write the checkpoint after a step, then delete the oldest.

        Raises `FileError` if it cannot be written; the checkpoints before it are then intact.
        """
        aside = self.folder / f"{ASIDE}{secrets.token_hex(4)}"
        try:
            aside.mkdir()
            _fill(aside, model, state, self.run)
            target = self.folder / f"{PREFIX}{step:09}"
            shutil.rmtree(target, ignore_errors=True)  # a damaged one that was skipped
            aside.replace(target)
            _flush(self.folder)
        except (OSError, InputError) as error:
            raise self._unwritable(step, error) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        for old in self._found()[: -self.settings.keep]:
            shutil.rmtree(old, ignore_errors=True)

    def _found(self) -> list[Path]:
        return _checkpoints(self.folder)

    def _read(self, folder: Path) -> Saved:
        with _damage():
            head = json.loads((folder / HEAD).read_text(encoding="utf-8"))
            if head["format"] != FORMAT:
                raise ValueError(f"format {head['format']!r}; this secateur reads format {FORMAT}")
            run = dict(head["run"])
            for name, digest in head["files"].items():
                if _digest(folder / name) != digest:
                    raise ValueError(f"{name} has changed since it was written")
            tensors, metadata = read_tensors(folder / STATE)
            state = unpack(json.loads(metadata["state"]), tensors)
        self._check_same(folder, run)
        return Saved(folder, state)

    def _check_same(self, folder: Path, there: Mapping[str, str]) -> None:
        names = [name for name in {**there, **self.run} if there.get(name) != self.run.get(name)]
        if names:
            rows = [("", "there", "here"), *((name, there.get(name, ""), self.run.get(name, "")) for name in names)]
            lines = "\n".join(f"  {line}" for line in columns(rows))
            raise FileError(
                f"{folder} belongs to another run\n{lines}\ngive another folder, or delete this one to start over"
            )

    def _unwritable(self, step: int, error: OSError | InputError) -> FileError | InputError:
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(error, InputError) and not isinstance(cause, OSError):
            return error  # what the model holds cannot be stored
        left = [folder.name for folder in self._found()]
        before = f"intact: {', '.join(left)}; training resumes from there" if left else "there are none before it"
        reason = getattr(cause, "strerror", None) or cause
        return FileError(
            f"the checkpoint after step {step} cannot be written to {self.folder}: {reason}\n{before}\n"
            "free some space or fix the cause, and start the same run again"
        )


def steps_in(folder: PathLike) -> list[int]:
    """Return the steps of the checkpoints in a folder, in rising order; empty if there is no folder."""
    return [_step_of(path) for path in _checkpoints(path_of(folder))]


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder. Other files and folders, such as a copy of one, are left alone."""
    own = re.compile(re.escape(PREFIX) + r"\d{9,}")
    return sorted(
        (path for path in folder.glob(f"{PREFIX}*") if own.fullmatch(path.name) and path.is_dir()), key=_step_of
    )


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix(PREFIX))


class _DamagedError(Exception):
    """A checkpoint that cannot be read."""


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _DamagedError(f"{type(error).__name__}: {first_line(error)}") from error


def _fill(folder: Path, model: nn.Module, state: Any, run: Mapping[str, str]) -> None:
    tensors: dict[str, torch.Tensor] = {}
    packed = json.dumps(pack(state, tensors))
    save(model, folder / MODEL)
    save_tensors(folder / STATE, tensors, {"state": packed})
    files = {name: _digest(folder / name) for name in (MODEL, STATE)}
    save_json(folder / HEAD, json.dumps({"format": FORMAT, "run": dict(run), "files": files}, indent=1))


def _digest(path: Path) -> str:
    running = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            running.update(block)
    return running.hexdigest()


def _flush(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system lets a folder be flushed
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
