"""Rows of figures in `results/accuracy_<section>.json`: runs, each with its command, machine and rows."""

from __future__ import annotations

import fcntl
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import record

KEY = ("task", "side", "name", "scope", "widths", "recovery", "share", "seed", "images")
Row = dict[str, Any]


def path_of(section: str) -> Path:
    """Return the file of a section."""
    return record.RESULTS / f"accuracy_{section}.json"


def key(row: Row) -> tuple[Any, ...]:
    """Return the fields that identify the measurement of a row."""
    return tuple(row.get(name) for name in KEY)


def read(path: Path) -> list[Row]:
    """Return the last row of every measurement."""
    runs = json.loads(path.read_text()) if path.exists() else []
    return list({key(row): row for run in runs for row in run["rows"]}.values())


def append(path: Path, row: Row) -> None:
    """Add a row under this command and machine, and remove an earlier row of the same measurement."""
    head = {"command": record.command(), "machine": record.machine()}
    with _alone(path):
        runs = json.loads(path.read_text()) if path.exists() else []
        for run in runs:
            run["rows"] = [old for old in run["rows"] if key(old) != key(row)]
        if not any({name: run[name] for name in head} == head for run in runs):
            runs.append({**head, "rows": []})
        next(run for run in runs if {name: run[name] for name in head} == head)["rows"].append(row)
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(".tmp")
        part.write_text(_text([run for run in runs if run["rows"]]))
        part.replace(path)


def _text(runs: list[Row]) -> str:
    """Return JSON with one line per row."""
    return "[\n" + ",\n".join(_run(run) for run in runs) + "\n]\n"


def _run(run: Row) -> str:
    head = ",\n".join(f"  {json.dumps(name)}: {json.dumps(run[name])}" for name in ("command", "machine"))
    rows = ",\n".join(f"    {json.dumps(row)}" for row in run["rows"])
    return f'{{\n{head},\n  "rows": [\n{rows}\n  ]\n}}'


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Lock the file, since two sides may be measured at the same time."""
    with (Path(tempfile.gettempdir()) / f"secateur-{path.stem}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
