"""A recipe's result as data: its rows, how they were made, and on what machine."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import secateur
from secateur.errors import FileError
from secateur.recipes.framework import Options, Result

RESULT = "result.json"


def document(result: Result, command: str, options: Options, seconds: float) -> dict[str, Any]:
    """Return the document that `secateur recipe NAME --json` prints."""
    return {
        "recipe": result.recipe,
        "command": command,
        "seed": options.seed,
        "quick": options.quick,
        "machine": machine(),
        "versions": versions(),
        "seconds": round(seconds, 1),
        "claim": result.claim,
        "data": result.data,
        "metric": result.metric,
        "columns": list(result.columns),
        "rows": [asdict(row) for row in result.rows],
        **result.more,
    }


def machine() -> dict[str, Any]:
    """Describe the machine, which measured seconds depend on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Return the versions of secateur, PyTorch and Python."""
    return {"secateur": secateur.__version__, "torch": torch.__version__, "python": platform.python_version()}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def open_folder(path: Path) -> Path:
    """Return the folder, created if missing. Raises `FileError` if it is not writable."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise FileError(f"--out {path} cannot be written: {error.strerror}; name another folder") from error
    return path


def write(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write result.json atomically: a reader finds the old or the new file, never part of one."""
    path, part = folder / RESULT, folder / f".{RESULT}.{os.getpid()}"
    try:
        part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise FileError(f"{path} cannot be written: {error.strerror}; name another folder with --out") from error
    return path


__all__ = ["document", "machine", "open_folder", "versions", "write"]
