"""Targets: `"macs=0.5"`, `["params=1.76e6", "macs=8.98e9"]`, `"channels=0.7"`, `"memory=20e6"`, `"depth=9"`.

A target always says what remains. `secateur.cost.kinds` lists the kinds; memory is counted in bytes
(`secateur.cost.memory`), depth in blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import overload

from secateur.cost.kinds import CHANNELS, KINDS, Number
from secateur.errors import TargetError, nearest


@dataclass(frozen=True, slots=True)
class Target:
    """An upper limit on one cost: at most `value` of `kind` may remain.

    Args:
        kind: A name in `secateur.cost.kinds.KINDS`, such as "macs", "params", "memory" (bytes) or "depth" (blocks).
        value: A share of what the model has if at most 1, a count if above 1. Channels take shares only, and some kinds
            counts only.

    Example:
        >>> Target.parse("macs=0.5")
        Target(kind='macs', value=0.5)
    """

    kind: str
    value: float

    @staticmethod
    def parse(text: str) -> Target:
        """Return the Target that a string such as "macs=0.5" describes.

        Raises:
            TargetError: The string is malformed; the message quotes it and shows a valid one.
        """
        kind, equals, number = (part.strip() for part in str(text).partition("="))
        if not equals or kind not in KINDS:
            unknown = f"\nunknown target kind {kind!r}; known: {', '.join(KINDS)}" if equals else ""
            raise TargetError(
                f"target {text!r}{nearest(kind, KINDS)}{unknown}\n"
                "write e.g. 'macs=0.5', 'params=1.76e6', 'channels=0.7', 'depth=9'"
            )
        try:
            value = float(number)
        except ValueError:
            raise TargetError(f"target {text!r}: {number!r} is not a number\nwrite e.g. '{kind}=0.5'") from None
        return Target(kind, value)._checked(text)

    def _checked(self, text: str) -> Target:
        kind = KINDS[self.kind]
        if not math.isfinite(self.value) or self.value <= 0:
            example = f"{kind.name}=0.5" if kind.shares else kind.example
            raise TargetError(f"target {text!r}: what remains must be more than 0\nwrite e.g. '{example}'")
        if not kind.counts and self.value > 1:
            each = ", per axis" if self.kind == CHANNELS else ""
            raise TargetError(
                f"target {text!r}: {kind.label} take a share of up to 1{each}\nwrite e.g. '{kind.example}'"
            )
        return self

    @property
    def is_share(self) -> bool:
        """Whether the value is a share of what the model has, rather than a count."""
        return self.value <= 1 and KINDS[self.kind].shares

    @overload
    def limit(self, total: int) -> int: ...

    @overload
    def limit(self, total: Number) -> Number: ...

    def limit(self, total: Number) -> Number:
        """Return the count that may remain of `total`: a whole number, unless the total is a float."""
        written = Fraction(str(self.value))  # 0.29 of 100 is 29; float arithmetic yields 28.99...
        most = written * Fraction(total) if self.is_share else written
        return float(most) if isinstance(total, float) else math.floor(most)

    def __str__(self) -> str:
        return f"{self.kind}={self.value:.12g}"


def parse_targets(target: str | Sequence[str] | None) -> list[Target]:
    """Return the targets that a string or a list of strings describes; a plan must meet all of them.

    Args:
        target: One target or a list; a string may hold several, separated by commas. None stands for an empty list.

    Returns:
        One Target for each part, in order.

    Raises:
        TargetError: A part is malformed, or `target` is not a string or a list.

    Example:
        >>> parse_targets("macs=0.5,params=1e6")
        [Target(kind='macs', value=0.5), Target(kind='params', value=1000000.0)]
    """
    if target is None:
        return []
    if not isinstance(target, (str, list, tuple)):
        raise TargetError(
            f"target {target!r} is a {type(target).__name__}\nwrite e.g. 'macs=0.5', or a list of such strings"
        )
    texts = [target] if isinstance(target, str) else target
    return [Target.parse(part) for text in texts for part in str(text).split(",")]


def target_at(kind: str, share: float, total: Number | None, digits: int = 4) -> str:
    """Return the target, as a string, that leaves a share of a total.

    >>> target_at("macs", 0.25, 1000)
    'macs=0.25'
    """
    by_count = not KINDS[kind].shares and total is not None
    return f"{kind}={share * total:.12g}" if by_count else f"{kind}={share:.{digits}g}"  # type: ignore[operator]


def smallest(kind: str, least: Number, total: Number) -> str:
    """Return the smallest target of four digits, as a string, that leaves at least `least` of a total."""
    if not KINDS[kind].shares:
        return f"{kind}={least:.12g}"
    return f"{kind}={math.ceil(least / total * 1e4) / 1e4:g}"
