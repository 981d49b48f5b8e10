"""The data of a Plan: which units stay, and everything that follows from it. Frozen, free of tensors.

Surgery, saving and loading, reports and the command line all read the same Plan. Kept units are listed per axis; a
site says by a term how the positions of each of its dimensions are made of axes. In JSON a term is an axis' name, a
number (that many positions, all kept), {"cat": [...]} or {"product": [...]}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from secateur.plan.codes import decoded
from secateur.plan.parts import (
    Added,
    AttributeChange,
    AxisPlan,
    Cache,
    Code,
    Gives,
    Recovery,
    Renorm,
    Renumbering,
    Scale,
    Totals,
)
from secateur.plan.renumbering import Names
from secateur.terms import Axis, PerUnit, Term, axes, positions, size

UNREAD = "unread"  # the note that names integers which may be out of date


@dataclass(frozen=True)
class Choice:
    """What is cut. `print(plan)` shows it; `Plan.from_json(plan.to_json()) == plan`.

    `removed`: modules that are bypassed, with what they gave back of their arguments; where `renumbered` closes the
    gaps that they leave in lists, they are taken out instead. `added`: parameters that the cut model has and the
    original has not. `recovery`: the steps, in order, that changed its weights afterwards; a cut by the plan takes none
    of them. `uncut`: all other parameters of the model, with their shapes, none of whose dimensions can be cut; None in
    a plan that an earlier version made.
    """

    axes: Mapping[str, AxisPlan]
    sites: Mapping[str, tuple[Code, ...]]
    attributes: tuple[AttributeChange, ...]
    scales: tuple[Scale, ...]
    before: Totals
    after: Totals
    renorms: tuple[Renorm, ...] = ()
    target: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    caches: tuple[Cache, ...] = ()  # to be emptied: `forward` fills them again
    removed: Mapping[str, Gives] = field(default_factory=dict)
    added: tuple[Added, ...] = ()
    recovery: tuple[Recovery, ...] = ()
    renumbered: Renumbering | None = None
    uncut: Mapping[str, tuple[int, ...]] | None = None

    @cached_property
    def names(self) -> Names:
        """What modules and tensors are called before and after the cut; the plan calls them as before."""
        return Names(self.removed, self.renumbered.lists if self.renumbered is not None else ())

    @cached_property
    def _terms(self) -> dict[str, Axis]:
        """An axis object for every name; the inner ones know their outer terms."""
        made: dict[str, Axis] = {}
        for name, axis in self.axes.items():
            made[name] = Axis(axis.size) if axis.outer is None else PerUnit(axis.size, None)
        for name, axis in self.axes.items():
            inner = made[name]
            if axis.outer is not None and isinstance(inner, PerUnit):
                inner.outer = decoded(axis.outer, made)
        return made

    @property
    def is_empty(self) -> bool:
        """Whether nothing is cut."""
        return not self.removed and all(axis.kept_count == axis.size for axis in self.axes.values())

    def term(self, code: Code) -> Term:
        """The term that a code stands for."""
        return decoded(code, self._terms)

    @cached_property
    def kept_units(self) -> dict[Axis, Any]:
        """Kept units by axis, as `terms.positions` reads them."""
        return {self._terms[name]: axis.kept for name, axis in self.axes.items() if axis.kept is not None}

    @cached_property
    def _moved(self) -> set[Axis]:
        """The axes that do not keep every unit in its place."""
        return {axis for axis, kept in self.kept_units.items() if not _whole(axis.n, kept)}

    @cached_property
    def _counts(self) -> dict[Axis, int]:
        return {self._terms[name]: axis.kept_count for name, axis in self.axes.items()}

    def positions(self, name: str) -> list[list[int] | None]:
        """Of a site, the positions that stay in each dimension; None where all do."""
        return [self._positions(code) for code in self.sites[name]]

    def _positions(self, code: Code) -> list[int] | None:
        """The positions of one term, worked out once: many sites share it."""
        key = code if isinstance(code, (str, int)) else repr(code)
        if key not in self._worked_out:
            term = self.term(code)
            moved = not self._moved.isdisjoint(axes(term))
            self._worked_out[key] = positions(term, self.kept_units) if moved else None
        return self._worked_out[key]

    @cached_property
    def _worked_out(self) -> dict[str | int, list[int] | None]:
        return {}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a site after the cut."""
        return tuple(size(self.term(code), self._counts) for code in self.sites[name])

    def old_shape(self, name: str) -> tuple[int, ...]:
        """The shape of a site before the cut."""
        return tuple(self.term(code).n for code in self.sites[name])

    def dropped(self) -> Iterator[tuple[str, AxisPlan]]:
        """The axes that lose units."""
        return ((name, axis) for name, axis in self.axes.items() if axis.kept_count < axis.size)


def _whole(n: int, kept: Any) -> bool:
    """Whether a list (or each of several) is 0, 1, ..., n - 1."""
    rows = kept if kept and isinstance(kept[0], tuple) else (kept,)
    return all(tuple(row) == tuple(range(n)) for row in rows)
