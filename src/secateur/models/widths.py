"""Helpers of the reference networks: scaled widths, and the number of blocks for a depth."""

from __future__ import annotations

from secateur.errors import InputError


def scaled(channels: int, width: float) -> int:
    """Return `width` times `channels`, at least two. Raises `InputError` for a factor that is not above 0.

    >>> scaled(64, 0.25), scaled(16, 0.01)
    (16, 2)
    """
    if not width > 0:
        raise InputError(f"width is {width}; it must be above 0: 1 is the network of the paper, 0.5 half of it")
    return max(2, round(channels * width))


def blocks_of(depth: int, each: int, rest: int, name: str) -> int:
    """Return n of depth = each * n + rest. Raises `InputError` if there is no such n.

    >>> blocks_of(56, 6, 2, "ResNet")
    9
    >>> blocks_of(52, 6, 2, "ResNet")
    Traceback (most recent call last):
        ...
    secateur.errors.InputError: a ResNet of depth 52; depths are 6 n + 2: the nearest are 50 and 56
    """
    n = (depth - rest) // each
    if n < 1 or each * n + rest != depth:
        below = each * max(n, 1) + rest
        raise InputError(
            f"a {name} of depth {depth}; depths are {each} n + {rest}: the nearest are {below} and {below + each}"
        )
    return n


__all__ = ["blocks_of", "scaled"]
