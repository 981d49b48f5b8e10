"""Targets: `"macs=0.5"`, `["params=1.76e6", "macs=8.98e9"]`, `"channels=0.7"`, `"memory=20e6"`, `"depth=9"`.

Always what remains. Memory is counted in bytes (`secateur.cost.memory`), depth in blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from secateur.errors import TargetError, nearest

KINDS = ("channels", "params", "macs", "memory", "depth")


@dataclass(frozen=True, slots=True)
class Target:
    """At most `value` of `kind` may remain: a share up to 1, a count above 1; channels take shares only.

    >>> Target.parse("macs=0.5")
    Target(kind='macs', value=0.5)
    """

    kind: str
    value: float

    @staticmethod
    def parse(text: str) -> Target:
        """Read `kind=number`. Raises `TargetError` with the text and what would do."""
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
            raise TargetError(f"target {text!r}: {number!r} is no number\nwrite e.g. '{kind}=0.5'") from None
        return Target(kind, value)._checked(text)

    def _checked(self, text: str) -> Target:
        if not math.isfinite(self.value) or self.value <= 0:
            raise TargetError(f"target {text!r}: what remains must be more than nothing\nwrite e.g. '{self.kind}=0.5'")
        if self.kind == "channels" and self.value > 1:
            raise TargetError(f"target {text!r}: channels take a share of up to 1, per axis\nwrite e.g. 'channels=0.7'")
        return self

    def limit(self, total: int) -> int:
        """The count that may remain of `total`."""
        written = Fraction(str(self.value))  # 0.29 of 100 is 29, which floats do not know
        return math.floor(written * total if written <= 1 else written)

    def __str__(self) -> str:
        return f"{self.kind}={self.value:.12g}"


def parse_targets(target: str | Sequence[str] | None) -> list[Target]:
    """One target or several; all are to be met."""
    if target is None:
        return []
    if not isinstance(target, (str, list, tuple)):
        raise TargetError(
            f"target {target!r} is a {type(target).__name__}\nwrite e.g. 'macs=0.5', or a list of such texts"
        )
    texts = [target] if isinstance(target, str) else target
    return [Target.parse(part) for text in texts for part in str(text).split(",")]
