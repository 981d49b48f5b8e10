"""Checkpoints of a training: whoever is killed goes on from the last one, to the same weights.

A checkpoint is a folder `step-000000120` with `model.safetensors` (weights and plans, as `secateur.save` stores them),
`state.safetensors` (optimizer, random generators, position: tensors, and the rest as JSON in its metadata) and
`checkpoint.json` (which run this is, and the SHA-256 of both files). It is written aside and renamed, so that it is
there as a whole or not at all; older ones go after that. Nothing is ever unpickled.
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
    """A checkpoint in `folder` after every `every` steps of the optimizer, of which the last `keep` stay.

    Where the folder holds checkpoints of the same run already, training goes on from the newest, and `going_on` is
    called with its step; `about` says by name what else a run depends on, such as its data. Raises `InputError` for a
    number out of range.

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
        """The same. Raises `InputError` for what is none, such as the path of a folder."""
        if checkpoint is None or isinstance(checkpoint, Checkpointing):
            return checkpoint
        raise InputError(f"checkpoint is {checkpoint!r}; write Checkpointing({str(checkpoint)!r}, every=100)")

    def opened(self, run: Mapping[str, str]) -> Checkpoints:
        """The folder as the run with these fingerprints sees it. Raises `FileError` where it cannot be written to."""
        store = Checkpoints(self, {**self.about, **run})
        try:
            store.folder.mkdir(parents=True, exist_ok=True)
            Path(tempfile.mkdtemp(prefix=ASIDE, dir=store.folder)).rmdir()  # now, and not after the first hour
        except OSError as error:
            raise FileError(
                f"no checkpoints can be written to {self.folder}: {error.strerror}; give another folder"
            ) from error
        for left in store.folder.glob(f"{ASIDE}*"):  # of a run that was killed while it wrote
            shutil.rmtree(left, ignore_errors=True)
        return store


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint as it was read: `state` is what the training put there."""

    folder: Path
    state: Any

    @property
    def step(self) -> int:
        """How many steps were done, as the name of the folder says."""
        return _step_of(self.folder)

    @property
    def model(self) -> Path:
        """The file with weights and plans."""
        return self.folder / MODEL

    def put_weights(self, model: nn.Module) -> None:
        """Copy weights and masks into a model of the same structure; its parameters stay the same objects."""
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
    """The checkpoints of one run. `run`: by part, what it depends on."""

    settings: Checkpointing
    run: Mapping[str, str]

    @property
    def folder(self) -> Path:
        return path_of(self.settings.folder)

    def due(self, step: int) -> bool:
        """Whether a checkpoint is to be written after this step."""
        return step % self.settings.every == 0

    def newest(self) -> Saved | None:
        """The last checkpoint that can be read; None where there are none.

        A damaged one is passed over with a warning. Raises `FileError` where it is of another run, or none can be read.
        """
        found, trouble = self._found()[::-1], ""
        for folder in found:
            try:
                saved = self._read(folder)
            except _DamagedError as error:
                trouble = f"{folder} cannot be read: {error}"
                warnings.warn(f"{trouble}; going on from the one before it", stacklevel=2)
            else:
                if self.settings.going_on is not None:
                    self.settings.going_on(saved.step)
                return saved
        if found:
            raise FileError(f"no checkpoint in {self.folder} can be read\n{trouble}\ndelete the folder to start over")
        return None

    def write(self, step: int, model: nn.Module, state: Any) -> None:
        """Write the checkpoint after a step, then delete the oldest.

        Raises `FileError` where it cannot be written; those before it are intact then.
        """
        aside = self.folder / f"{ASIDE}{secrets.token_hex(4)}"
        try:
            aside.mkdir()
            _fill(aside, model, state, self.run)
            target = self.folder / f"{PREFIX}{step:09}"
            shutil.rmtree(target, ignore_errors=True)  # a damaged one that was passed over
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
            told = "\n".join(f"  {line}" for line in columns(rows))
            raise FileError(
                f"{folder} is of another run\n{told}\ngive another folder, or delete this one to start over"
            )

    def _unwritable(self, step: int, error: OSError | InputError) -> FileError | InputError:
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(error, InputError) and not isinstance(cause, OSError):
            return error  # what the model holds cannot be stored
        left = [folder.name for folder in self._found()]
        before = f"intact: {', '.join(left)}; training goes on from there" if left else "there are none before it"
        reason = getattr(cause, "strerror", None) or cause
        return FileError(
            f"the checkpoint after step {step} cannot be written to {self.folder}: {reason}\n{before}\n"
            "make room or mend it, and start the same run again"
        )


def steps_in(folder: PathLike) -> list[int]:
    """After which steps there are checkpoints in a folder, the first first; none where there is no folder."""
    return [_step_of(path) for path in _checkpoints(path_of(folder))]


def _checkpoints(folder: Path) -> list[Path]:
    """Those that were written here. What else lies beside, such as a copy of one, is the user's: left alone."""
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
