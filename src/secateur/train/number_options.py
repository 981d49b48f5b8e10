"""Checks of options that are numbers."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from secateur.errors import InputError


def check_number(name: str, value: Any, fits: Callable[[Any], bool], wish: str) -> None:
    """Raise `InputError` for a value that is not a number or does not fit; `wish` says which values do.

    >>> check_number("lr", 0.1, lambda lr: lr > 0, "it must be above 0")
    """
    _check(Real, "number", name, value, fits, wish)


def check_whole(name: str, value: Any, fits: Callable[[Any], bool], wish: str) -> None:
    """The same for whole numbers."""
    _check(Integral, "whole number", name, value, fits, wish)


def _check(kind: type, called: str, name: str, value: Any, fits: Callable[[Any], bool], wish: str) -> None:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise InputError(f"{name} is {value!r}, which is not a {called}; {wish}")
    if not fits(value):
        raise InputError(f"{name} is {value}; {wish}")


__all__ = ["check_number", "check_whole"]
