"""The units of axes in a run that is compared with another: which stay, and in what order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from secateur.terms import Axis, Kept, Term, axes, find, kept_size, positions


@dataclass(frozen=True)
class Units:
    """The units that stay, and the order of the units in a run.

    `keep`: the units that stay, by axis. `order`: the order of all units, by axis. `gone`: whether the model is cut,
    and holds only the units that stay.
    """

    keep: Kept = field(default_factory=dict)
    order: Kept = field(default_factory=dict)
    gone: bool = False
    _found: dict[tuple[str, Term], list[int]] = field(default_factory=dict, repr=False, compare=False)

    def loses(self, term: Term) -> bool:
        """Return whether a dimension of this term has units that do not stay."""
        return any(axis in self.keep for axis in axes(term))

    def moves(self, term: Term) -> bool:
        """Return whether a dimension of this term differs from the original."""
        return any(axis in self.order or (self.gone and axis in self.keep) for axis in axes(term))

    def staying(self, term: Term) -> list[int]:
        """Return the positions in a dimension of this term of the units that stay."""
        return self._once("staying", find(term))

    def sources(self, term: Term) -> list[int]:
        """Return, for every position in a dimension of this term, the position of its unit in the original."""
        return self._once("sources", find(term))

    def size(self, term: Term) -> int:
        """Return how many positions of a dimension of this term stay."""
        return kept_size(term, self.keep)

    def _once(self, what: str, term: Term) -> list[int]:
        if (what, term) not in self._found:
            self._found[what, term] = self._staying(term) if what == "staying" else self._sources(term)
        return self._found[what, term]

    def _staying(self, term: Term) -> list[int]:
        kept = positions(term, self.keep)
        if not self.order:
            return kept
        wanted = set(kept)
        return [place for place, source in enumerate(self.sources(term)) if source in wanted]

    def _sources(self, term: Term) -> list[int]:
        return positions(term, self.keep if self.gone else self.order)


def by_axis(kept: Mapping[str, object], axes_by_name: Mapping[str, Axis]) -> Kept:
    """Return units by axis from units by the name of the axis, without unknown names."""
    return {axes_by_name[name]: units for name, units in kept.items() if name in axes_by_name}  # type: ignore[misc]
