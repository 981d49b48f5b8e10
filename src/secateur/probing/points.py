"""Measured values: one point a cut, one curve a group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured with `kept` of the steps of a group, the most within a share of `ratio`."""

    ratio: float
    kept: int
    value: float


@dataclass(frozen=True, slots=True)
class Curve:
    """The measured points of one group, deepest cut last: `units` by the name of each axis, `steps` of all together."""

    units: Mapping[str, int]
    steps: int
    points: tuple[Point, ...]

    @property
    def name(self) -> str:
        """The axis that the group is called by."""
        return next(iter(self.units))
