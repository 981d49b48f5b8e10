"""What the user wants kept, aligned, or exactly so wide."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import InputError, nearest
from ..graph import Graph, Group, PrunableAxis


@dataclass(frozen=True)
class Select:
    """Limits on a plan.

    protect: modules or parameters (names or globs) that stay as they are. align: counts become multiples of this.
    floor: the least that stays of every axis, a share up to 1 or a count above 1. widths: exact counts by axis name.

    >>> Select(protect=("fc*",), align=8, widths={"conv1": 16}).align
    8
    """

    protect: Sequence[str] = ()
    align: int = 1
    floor: float = 0.1
    widths: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.protect, str):
            object.__setattr__(self, "protect", (self.protect,))
        if not isinstance(self.align, int) or self.align < 1:
            raise InputError(f"align={self.align!r}: counts become multiples of it, so it is a whole number from 1 up")
        if not 0 <= self.floor < math.inf:
            raise InputError(f"floor={self.floor!r}: a share up to 1 (0.1) or a count above 1 (8)")

    def least(self, axis: PrunableAxis) -> int:
        """The smallest count that an axis may have."""
        floor = math.ceil(self.floor * axis.size - 1e-9) if self.floor <= 1 else math.ceil(self.floor)
        return min(axis.size, max(1, axis.least, floor))

    def protected(self, graph: Graph) -> set[int]:
        """The groups that hold a protected parameter. Raises `InputError` for a pattern that matches nothing."""
        groups: set[int] = set()
        names = _names(graph)
        modules = {name[:i] for name in names for i, letter in enumerate(name) if letter == "."}
        for pattern in self.protect:
            hit = {site for name, site in names.items() if _means(pattern, name)}
            if not hit and pattern not in graph.by_name:
                raise InputError(f"protect names {pattern!r}, which matches no parameter{nearest(pattern, modules)}")
            groups |= {a.group for a in graph.axes if a.name == pattern or any(use.name in hit for use in a.sites)}
        return groups

    def fixed(self, graph: Graph) -> dict[int, int]:
        """Steps to keep by group, from `widths`. Raises `InputError` for names, counts or ties that do not fit."""
        fixed: dict[int, int] = {}
        for name, width in self.widths.items():
            axis = graph.axis(name)
            steps = width_steps(graph.groups[axis.group], axis, width)
            if fixed.setdefault(axis.group, steps) != steps:
                raise InputError(
                    f"widths gives {name!r} {width}, but it is tied to another axis with a different share"
                )
        return fixed


def width_steps(group: Group, axis: PrunableAxis, width: int) -> int:
    """How many steps of a group leave `width` units of one of its axes."""
    step = axis.size // group.steps
    if not isinstance(width, int) or not axis.least <= width <= axis.size:
        raise InputError(
            f"widths gives {axis.name!r} {width!r}; it has {axis.size} units and keeps {axis.least} or more"
        )
    if width % step:
        tied = ", ".join(a.name for a in group.axes if a is not axis)
        below = max(width // step, 1) * step
        raise InputError(
            f"widths gives {axis.name!r} {width}, but it is tied to {tied} and moves in steps of {step}\n"
            f"the nearest widths are {below} and {below + step}"
        )
    return width // step


def _names(graph: Graph) -> dict[str, str]:
    """The sites of a graph by all of their names: shared tensors, and tensors of shared modules, have several."""
    model = graph.model
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    for name, tensor in named:
        if name in graph.sites:
            first.setdefault(id(tensor), name)
    return {**{name: name for name in graph.sites}, **{name: first[id(t)] for name, t in named if id(t) in first}}


def _means(pattern: str, name: str) -> bool:
    """A pattern means a parameter by its name, or all parameters of a module by the module's."""
    parts = name.split(".")
    return any(fnmatch.fnmatchcase(".".join(parts[:i]), pattern) for i in range(1, len(parts) + 1))
