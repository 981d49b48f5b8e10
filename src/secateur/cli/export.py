"""`secateur export`: what takes a saved model elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from typer import Option

from secateur.cli.command import CommandResult
from secateur.cli.runs import RUN, read_run
from secateur.errors import FileError, InputError

# ruff: noqa: UP045


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run, or a file that secateur saved.")],
    loader: Annotated[
        bool, Option("--loader", help="A Python file that loads the weights; needs only torch and safetensors.")
    ] = False,
    out: Annotated[Optional[Path], Option(metavar="FILE", help="Write it there instead of to stdout.")] = None,
) -> CommandResult:
    """Print a short loader for a pruned model that needs only torch and safetensors.

    secateur export run/small --loader --out loader.py
    """
    from secateur.export.loader import loader_source

    if not loader:
        raise InputError("export what? add --loader")
    source = loader_source(_saved_file(run))
    if out is None:
        return CommandResult({"loader": source}, source.rstrip("\n"))
    _write(out, source)
    return CommandResult({"loader": source, "out": str(out)}, f"wrote {out}")


def _saved_file(run: str) -> Path:
    path = Path(run)
    if path.is_dir() or path.name == RUN:
        return read_run(path).model
    if not path.is_file():
        raise FileError(f"no run and no file {run}")
    return path


def _write(path: Path, text: str) -> None:
    from secateur.base.writing import save_json

    try:
        save_json(path, text)
    except OSError as error:
        raise FileError(f"--out {path} cannot be written: {error.strerror}; name another file") from error
