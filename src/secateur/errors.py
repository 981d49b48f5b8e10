"""The errors that secateur raises. Every message states the fact, the value, and the remedy on a line of its own."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PruningError(Exception):
    """Base of everything that secateur raises on purpose."""


class InputError(PruningError, ValueError):
    """The caller passed something that cannot be used; the message says what can."""


class TargetError(InputError):
    """A target is malformed, out of range or cannot be reached on this model."""


class TraceError(PruningError):
    """The model could not be run on the example inputs, so it could not be traced."""


class FileError(InputError):
    """A file is missing, truncated, hostile, or belongs to another model."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """The `; did you mean ...?` part of a message about an unknown name; empty if no known name is similar.

    >>> nearest("layer1.conv", ["layer1.conv1", "fc"])
    "; did you mean 'layer1.conv1'?"
    """
    near = difflib.get_close_matches(str(name), list(known), n=count, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
