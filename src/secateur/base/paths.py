"""Checks the paths that users pass."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from secateur.errors import FileError

PathLike: TypeAlias = "str | os.PathLike[str]"
SHOWN = 60


def path_of(given: PathLike) -> Path:
    """Return a path, whether or not a file exists there. Raises `FileError` for a value that cannot name a file.

    >>> path_of("small.safetensors").suffix
    '.safetensors'
    """
    try:
        path = Path(given)
        if not str(given):
            raise ValueError("it is empty")
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.stat()  # Path.exists would hide that the name itself is invalid
    except (TypeError, ValueError, OSError) as error:
        shown = repr(given)
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}... ({len(shown):,} characters)"
        fact = error.strerror if isinstance(error, OSError) else error
        raise FileError(f"{shown} cannot name a file: {fact}\ngive a path, such as 'small.safetensors'") from error
    return path
