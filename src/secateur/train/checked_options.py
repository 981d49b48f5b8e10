"""Options that others pass on to `iterate`: a wrong name is told at once, not in the middle of a training."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable

from secateur.errors import InputError, nearest
from secateur.train.iterate import iterate


def check_options(names: Iterable[str], set_here: Collection[str], own: Collection[str] = ()) -> None:
    """Raise `InputError` for what is no option of `iterate`, or is set here. `own`: what the caller takes beside.

    >>> check_options(["schedule", "seed"], set_here=["carry"], own=["every"])
    """
    passed = [name for name in inspect.signature(iterate).parameters if name not in set_here and name not in own]
    for name in names:
        if name not in passed:
            known = [*own, *passed]
            raise InputError(f"no option {name!r}{nearest(name, known)}\nknown: {', '.join(known)}")


__all__ = ["check_options"]
