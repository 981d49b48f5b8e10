"""The folder of a run: `model.safetensors` (weights and plans) and `run.json` (everything else).

`run.json` says how the model is built (the path of a factory file is absolute), its input, the weights that it started
from, and what was done. `verify` needs the original weights. If they came from a file, its path and SHA-256 are stored.
If not (random, loaded by the factory itself, or masked and trained before the cut), they are kept as
`dense.safetensors` in the same folder: unlike a seed, that works on any machine and any version of PyTorch.

Using a run executes its factory file, so use only runs from people you trust.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.errors import FileError, InputError, nearest

MODEL = "model.safetensors"
DENSE = "dense.safetensors"
PRETRAINED = "pretrained"  # a folder for from_pretrained
RUN = "run.json"
FORMAT = 1


@dataclass(frozen=True)
class Original:
    """The weights that a pruned model was cut from."""

    path: Path
    sha256: str

    @staticmethod
    def of(path: Path) -> Original:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
        return Original(path, digest.hexdigest())

    def check(self) -> None:
        """Raise `FileError` if the file is missing or has changed."""
        remedy = "give the file that was pruned: --weights FILE"
        if not self.path.is_file():
            raise FileError(f"the original weights {self.path} are missing\n{remedy}")
        if (now := Original.of(self.path).sha256) != self.sha256:
            raise FileError(
                f"the original weights {self.path} have changed\n"
                f"  at prune  SHA-256 {self.sha256[:16]}...\n  now       SHA-256 {now[:16]}...\n{remedy}"
            )


@dataclass(frozen=True)
class RunFile:
    """The contents of run.json, and the folder it is in."""

    folder: Path
    document: Mapping[str, Any]

    @property
    def model(self) -> Path:
        return self.folder / MODEL

    @property
    def spec(self) -> str:
        return self.document["model"]["spec"]

    @property
    def args(self) -> dict[str, Any]:
        return dict(self.document["model"]["args"])

    @property
    def seed(self) -> int:
        return int(self.document["model"]["seed"])

    @property
    def input(self) -> str | None:
        return self.document["input"]

    @property
    def finetuned(self) -> bool:
        return bool(self.document.get("history"))

    @property
    def original(self) -> Original:
        """The weights before the cut. Raises `InputError` if nothing was cut."""
        noted = self.document.get("original")
        if noted is None:
            raise InputError(f"{self.folder} was made by {self.document['kind']}: nothing was cut, nothing to verify")
        return Original(self.folder / noted["path"], noted["sha256"])


def read_run(path: Path) -> RunFile:
    """Return the run in a folder, or in that of a model file. Raises `FileError` if it is missing or damaged."""
    if not path.exists():
        raise FileError(f"there is no run {path}{nearest(path.name, (other.name for other in path.parent.glob('*')))}")
    folder = path if path.is_dir() else path.parent
    file = folder / RUN
    if not file.is_file():
        raise FileError(
            f"{folder} is not the folder of a run: it holds no {RUN}; prune, mask and train make one with --out"
        )
    try:
        run = RunFile(folder.resolve(), json.loads(file.read_text(encoding="utf-8")))
        _check(run)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{file} cannot be read: {type(error).__name__}: {error}\nmake the run again") from error
    if not run.model.is_file():
        raise FileError(f"{folder} holds a {RUN}, but no {MODEL}; make the run again")
    return run


def _check(run: RunFile) -> None:
    if run.document["format"] != FORMAT:
        raise FileError(
            f"{run.folder / RUN} has format {run.document['format']!r}; this secateur reads format {FORMAT}: update it"
        )
    for value, kind in ((run.spec, str), (run.args, dict), (run.seed, int), (run.document["kind"], str)):
        if not isinstance(value, kind):
            raise TypeError(f"{value!r} where {kind.__name__} is expected")


def versions() -> dict[str, str]:
    """Return the versions of secateur, PyTorch and Python."""
    import torch

    import secateur

    return {"secateur": secateur.__version__, "torch": torch.__version__, "python": platform.python_version()}


@contextlib.contextmanager
def staged(out: Path, *sources: Path | None) -> Iterator[Path]:
    """Yield a folder to write into. At the end its files move to `out`, run.json last; on failure `out` is unchanged.

    Enter it before the work starts: it raises if `out` cannot be written or holds one of the `sources`.
    """
    _check_apart(out, sources)
    fresh = [folder for folder in (out, *out.parents) if not folder.exists()]
    staging: Path | None = None
    try:
        staging = _make(out)
        yield staging
        _publish(staging, out)
    except FileError as error:  # the user does not know the staging folder
        raise FileError(str(error).replace(str(staging), str(out))) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        for folder in fresh:
            with contextlib.suppress(OSError):  # missing, or no longer empty
                folder.rmdir()


def _check_apart(out: Path, sources: tuple[Path | None, ...]) -> None:
    for source in sources:
        if source is not None and source.resolve().parent == out.resolve():
            raise InputError(f"--out {out} holds the weights that are read, {source}; name another folder")


def _make(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".secateur-", dir=out))
    except OSError as error:
        raise FileError(f"--out {out} cannot be written: {error.strerror}; name another folder") from error


def _publish(staging: Path, out: Path) -> None:
    # Without run.json the folder is not a run, so the old description is never taken for that of the new weights.
    for name in (RUN, MODEL, DENSE):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / PRETRAINED, ignore_errors=True)
    for file in sorted(staging.iterdir(), key=lambda file: file.name == RUN):
        file.replace(out / file.name)
