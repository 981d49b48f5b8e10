"""The Graph: the result of a trace, with methods to print and explain it."""

from __future__ import annotations

from typing import Any

from secateur.graph.data import as_dict
from secateur.graph.facts import Facts
from secateur.graph.names import axis_named
from secateur.graph.parts import PrunableAxis
from secateur.graph.text import table
from secateur.graph.why import Why, why


class Graph(Facts):
    """The result of `secateur.trace`: the prunable axes of a model, the dimensions that they couple, and their costs.

    `print(graph)` shows a table of the axes and of what is not prunable; `graph.why(pattern)` explains parameters.

    Attributes:
        axes: the prunable axes (`PrunableAxis`): sets of units, such as channels or heads, that are removed together.
        groups: axes that must keep the same share of their units.
        sites: every parameter and buffer, by name, with a term for each dimension.
        frozen: the dimensions that are not prunable, each with the reason.
        params: the number of parameters.
        total_macs: the multiply-adds of the first traced call, for the whole batch.
        memory: the bytes that the first traced call needs.
        coverage: the shares of the parameters and MACs that lie on a prunable axis.
        cost: parameters, MACs and memory as functions of the number of units that each axis keeps.
        blocks: the modules that can be bypassed, for depth pruning.

    Example:
        >>> import secateur, torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        >>> graph = secateur.trace(net, torch.zeros(1, 4))
        >>> [(axis.name, axis.size) for axis in graph.axes], graph.params
        ([('0', 8)], 58)
    """

    def axis(self, name: str) -> PrunableAxis:
        """Return the axis that a name refers to.

        Args:
            name: the name of an axis, of a module or parameter whose output it is, of a single dimension of a tensor
                (`out.weight[1]`), or of a tensor that holds only this axis.

        Raises:
            InputError: no axis or several axes have that name. The message lists them or similar names, or the reason
                why the dimension is not prunable.
        """
        return axis_named(self, name)

    def why(self, pattern: str) -> Why:
        """Explain parameters: which axes they hold, what these axes couple, and which ops freeze the other dimensions.

        The model is traced once more.

        Args:
            pattern: the name of a parameter, module or axis, or a glob of such names.

        Returns:
            The explanation; `print` shows it, and `as_dict` returns it as plain data.

        Raises:
            InputError: nothing matches. The message lists similar names.
        """
        return why(self, pattern)

    def as_dict(self) -> dict[str, Any]:
        """Return everything that `print(graph)` shows, in full, as plain data for JSON."""
        return as_dict(self)

    def __str__(self) -> str:
        return table(self)
