"""`secateur export`: write code that runs a saved model without secateur."""

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
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="The --out folder of a run, or a file that secateur saved.")
    ],
    to: Annotated[
        str,
        Option(
            metavar="RUNTIME",
            help="Where the model is to run: {runtimes}. The loader is a Python file that loads the weights; it needs "
            "only torch and safetensors.",
        ),
    ] = "loader",
    loader: Annotated[bool, Option("--loader", help="The same as --to loader.")] = False,
    out: Annotated[Optional[Path], Option(metavar="FILE", help="Write to this file instead of stdout.")] = None,
) -> CommandResult:
    """Print the code that runs a pruned model without secateur: by default, a loader on torch and safetensors.

    secateur export run/small --to loader --out loader.py
    """
    from secateur.export.runtimes import exported

    if loader and to != "loader":
        raise InputError(f"--loader means --to loader, but --to is {to}; leave out one of them")
    text = exported(_saved_file(run), to)
    if out is None:
        return CommandResult({to: text}, text.rstrip("\n"))
    _write(out, text)
    return CommandResult({to: text, "out": str(out)}, f"wrote {out}")


def _saved_file(run: str) -> Path:
    path = Path(run)
    if path.is_dir() or path.name == RUN:
        return read_run(path).model
    if not path.is_file():
        raise FileError(f"{run} is not a run or a file")
    return path


def _write(path: Path, text: str) -> None:
    from secateur.base.writing import save_json

    try:
        save_json(path, text)
    except OSError as error:
        raise FileError(f"--out {path} cannot be written: {error.strerror}; name another file") from error
