"""The Graph: what a trace found out about a model, and what one can ask of it."""

from __future__ import annotations

from typing import Any

from secateur.graph.data import as_dict
from secateur.graph.facts import Facts
from secateur.graph.names import axis_named
from secateur.graph.parts import PrunableAxis
from secateur.graph.text import table
from secateur.graph.why import Why, why


class Graph(Facts):
    """Axes, sites, size equations and costs of a model. `print(graph)` tells; `why(pattern)` explains."""

    def axis(self, name: str) -> PrunableAxis:
        """The axis that a name means: its own, of what it comes out of, of a tensor or dimension that holds it.

        Raises `InputError` with the nearest names, the reason why nothing is cut there, or all where there are several.
        """
        return axis_named(self, name)

    def why(self, pattern: str) -> Why:
        """For parameters that match a glob: the axes they hold, what these couple, and by which ops the rest is frozen.

        The model is traced once more. Raises `InputError` with the nearest names where nothing matches.
        """
        return why(self, pattern)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return as_dict(self)

    def __str__(self) -> str:
        return table(self)
