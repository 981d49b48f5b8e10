"""Options that functions share, as groups (`TypedDict`) of keyword arguments. Unknown names are refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from secateur.errors import InputError, nearest


def option_names(function: Callable[..., Any], *groups: type[Any]) -> tuple[str, ...]:
    """Return the names that a function takes: its own parameters, then the options of groups in its `**options`."""
    parameters = inspect.signature(function).parameters.values()
    own = [one.name for one in parameters if one.kind is not one.VAR_KEYWORD]
    return (*own, *(name for group in groups for name in group.__annotations__))


def check_names(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise `InputError` for a name that is not known, with the nearest that is.

    >>> check_names(["seed"], ["schedule", "seed"])
    """
    known = tuple(known)
    for name in names:
        if name not in known:
            raise InputError(f"no option {name!r}{nearest(name, known)}\nknown: {', '.join(known)}")


def by_group(function: Callable[..., Any], options: Mapping[str, Any], *groups: type[Any]) -> list[dict[str, Any]]:
    """Return the `**options` of a function by group. Raises `InputError` for a name that no group has."""
    check_names(options, option_names(function, *groups))
    return [{name: value for name, value in options.items() if name in group.__annotations__} for group in groups]


__all__ = ["by_group", "check_names", "option_names"]
