"""Measured values: one point per cut, one curve per group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """The measured `value` with `kept` steps of a group, the most within a share `ratio` (0 to 1) of its steps."""

    ratio: float
    kept: int
    value: float


@dataclass(frozen=True, slots=True)
class Curve:
    """The measured points of one group, the deepest cut last; `units` by axis name, and the group's `steps`."""

    units: Mapping[str, int]
    steps: int
    points: tuple[Point, ...]

    @property
    def name(self) -> str:
        """The name of the group's first axis, which names the group."""
        return next(iter(self.units))
