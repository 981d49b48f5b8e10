"""The errors that secateur raises. Every message states the fact, the value, and the remedy on a separate line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PruningError(Exception):
    """Base class of all errors that secateur raises on purpose."""


class InputError(PruningError, ValueError):
    """An argument that cannot be used; the message says what can be passed instead."""


class TargetError(InputError):
    """A target that is malformed, out of range or cannot be reached on this model."""


class TraceError(PruningError):
    """A model that could not be run on the example inputs, and so could not be traced."""


class FileError(InputError):
    """A file that is missing, truncated, hostile, or belongs to another model."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return the `; did you mean ...?` part of a message about an unknown name; empty if no known name is similar.

    >>> nearest("layer1.conv", ["layer1.conv1", "fc"])
    "; did you mean 'layer1.conv1'?"
    """
    near = difflib.get_close_matches(str(name), list(known), n=count, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
