"""The table of runtimes: what a saved model is exported to, by the name that `secateur export --to` takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from secateur.base.table import Table
from secateur.errors import InputError, nearest
from secateur.export.loader import loader_source

Runtime: TypeAlias = "Callable[[Path], str]"
"""From the path of a file that `secateur.save` wrote to the content of the file that the runtime reads."""

RUNTIMES: Table[str, Runtime] = Table("runtimes named", {"loader": loader_source})


def exported(path: Path, to: str = "loader") -> str:
    """Return the content of the file that a runtime reads, made from a saved model.

    Args:
        path: A file that `secateur.save` wrote.
        to: The name of the runtime, a row of `RUNTIMES`.

    Returns:
        The content of the file to write.

    Raises:
        InputError: No runtime has this name.
        FileError: `path` is not such a file.

    Example:
        >>> exported(Path("model.safetensors"), to="lodaer")
        Traceback (most recent call last):
            ...
        secateur.errors.InputError: no runtime 'lodaer'; did you mean 'loader'?
        known: loader
    """
    if to not in RUNTIMES:
        raise InputError(f"no runtime {to!r}{nearest(to, RUNTIMES)}\nknown: {', '.join(RUNTIMES)}")
    return RUNTIMES[to](path)
