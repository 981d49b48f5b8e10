"""The data of a Plan: which units stay, and everything that follows from it. Frozen, and without tensors.

Surgery, saving and loading, reports and the command line all read the same Plan. Kept units are listed per axis; a site
(a tensor that is cut) has a term for each dimension, which says how its positions are composed of axes. In JSON a term
is the name of an axis, a number (that many positions, all kept), {"cat": [...]} or {"product": [...]}.
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

UNREAD = "unread"  # the note that names integers that may be out of date


@dataclass(frozen=True)
class Choice:
    """What is cut, as data. `Plan` adds the methods that make and read JSON, compose and print.

    Attributes:
        axes: Which units stay, by the name of the axis.
        sites: The tensors that are cut, by name, with a term for each dimension.
        uncut: All other parameters, by name, with their shapes: no dimension of theirs can be cut. None in a plan that
            an earlier version made.

        attributes: Integer attributes of modules that change, such as `out_features`.
        scales: Parameters whose rows are multiplied by a factor.
        renorms: Gains of weight norm that change with the norms of the shortened slices.
        caches: Containers of modules to be emptied; `forward` fills them again.

        removed: Modules that are removed, by name, with the arguments that they returned. They are bypassed, or taken
            out of their list where `renumbered` closes its gaps.
        renumbered: What closing the gaps in lists changes; None where no gap is closed.

        added: Parameters that the cut model has and the original does not have.
        recovery: The steps, in order, that changed the weights after the cut; a cut by the plan does not repeat them.

        before: Parameters, MACs, bytes and further costs of the original.
        after: The same of the cut model.
        target: The targets that the plan was made for; empty for a plan by hand.
        notes: What the plan was made with (criterion, scope, seed), by name.
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
    caches: tuple[Cache, ...] = ()
    removed: Mapping[str, Gives] = field(default_factory=dict)
    added: tuple[Added, ...] = ()
    recovery: tuple[Recovery, ...] = ()
    renumbered: Renumbering | None = None
    uncut: Mapping[str, tuple[int, ...]] | None = None

    @cached_property
    def names(self) -> Names:
        """The names of modules and tensors before and after the cut; the plan uses those from before."""
        return Names(self.removed, self.renumbered.lists if self.renumbered is not None else ())

    @cached_property
    def _terms(self) -> dict[str, Axis]:
        """An axis object for every name; axes that are chosen per outer unit refer to their outer terms."""
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
        """Return the term that a code stands for.

        Args:
            code: A term as it is in `sites` or in `AxisPlan.outer`.
        """
        return decoded(code, self._terms)

    @cached_property
    def kept_units(self) -> dict[Axis, Any]:
        """Kept units by axis, as `terms.positions` reads them."""
        return {self._terms[name]: axis.kept for name, axis in self.axes.items() if axis.kept is not None}

    @cached_property
    def _moved(self) -> set[Axis]:
        """The axes that drop or reorder units."""
        return {axis for axis, kept in self.kept_units.items() if not _whole(axis.n, kept)}

    @cached_property
    def _counts(self) -> dict[Axis, int]:
        return {self._terms[name]: axis.kept_count for name, axis in self.axes.items()}

    def positions(self, name: str) -> list[list[int] | None]:
        """Return the positions of a site that stay.

        Args:
            name: The name of the tensor.

        Returns:
            A list of positions for each dimension; None for a dimension of which all stay.

        Raises:
            KeyError: The plan does not cut a tensor of that name.
        """
        return [self._positions(code) for code in self.sites[name]]

    def shrinks(self, name: str) -> bool:
        """Return whether units of the site `name` are dropped or reordered."""
        return any(kept is not None for kept in self.positions(name))

    def _positions(self, code: Code) -> list[int] | None:
        """Return the positions of one term, computed once because many sites share it."""
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
        """Return the shape of the site `name` after the cut."""
        return tuple(size(self.term(code), self._counts) for code in self.sites[name])

    def old_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of the site `name` before the cut."""
        return tuple(self.term(code).n for code in self.sites[name])

    def dropped(self) -> Iterator[tuple[str, AxisPlan]]:
        """Return the axes that lose units, as pairs of a name and its entry in `axes`."""
        return ((name, axis) for name, axis in self.axes.items() if axis.kept_count < axis.size)


def _whole(n: int, kept: Any) -> bool:
    """Return whether a list (or each of several) is 0, 1, ..., n - 1."""
    rows = kept if kept and isinstance(kept[0], tuple) else (kept,)
    return all(tuple(row) == tuple(range(n)) for row in rows)
