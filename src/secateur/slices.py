"""What a criterion sees of an axis: sums over the slices that belong to each of its units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from .graph import Graph, PrunableAxis, SiteUse
from .readers import Reader
from .terms import Axis, Cat, Each, Term, axes, find, places, same


class Slices:
    """Parameters by the part that they play."""

    def __init__(self, uses: Sequence[SiteUse], tensors: Mapping[str, torch.Tensor]):
        self._sites = uses
        self._tensors = tensors

    def has(self, role: str) -> bool:
        """Whether any parameter plays this role."""
        return any(True for _ in self._uses(role))

    def _uses(self, role: str) -> list[SiteUse]:
        return [use for use in self._sites if use.role == role and use.name in self._tensors]


class AxisSlices(Slices):
    """The parameters of one axis, by role ("output", "input", "scale", "shift", "statistic")."""

    def __init__(self, axis: PrunableAxis, tensors: Mapping[str, torch.Tensor], dims: Mapping[str, tuple[Term, ...]]):
        super().__init__(axis.sites, tensors)
        self.axis = axis
        self._dims = dims

    @property
    def name(self) -> str:
        return self.axis.name

    @property
    def shape(self) -> tuple[int, ...]:
        """(n,), or (outer units, n) for an axis that is chosen anew per outer unit."""
        outer = self.axis.outer
        return (self.axis.size,) if outer is None else (outer.n, self.axis.size)

    def power_sum(self, role: str, p: float) -> torch.Tensor:
        """Sum of |w|^p over each unit's slices of every parameter of that role. Gives `shape`, float64."""
        total = torch.zeros(self.shape, dtype=torch.float64)
        for use in self._uses(role):
            tensor = self._tensors[use.name].detach()
            others = [d for d in range(tensor.dim()) if d != use.dim]
            whole = tensor if tensor.dtype == torch.float64 else tensor.float()
            norms = torch.linalg.vector_norm(whole, p, others) if others else whole.abs()
            total += per_unit(norms.double().cpu() ** p, self._dims[use.name][use.dim], self.axis.term)
        return total


def readers_by_axis(graph: Graph) -> list[tuple[PrunableAxis, list[Reader]]]:
    """Each axis with what reads it."""
    found: dict[Axis, list[Reader]] = {axis.term: [] for axis in graph.axes}
    for reader in graph.readers.values():
        for term in dict.fromkeys(axes(reader.channels)):
            if term in found:
                found[term].append(reader)
    return [(axis, found[axis.term]) for axis in graph.axes]


def per_unit(values: torch.Tensor, term: Term, axis: Axis) -> torch.Tensor:
    """Sum the values (positions, ...) of a dimension by the unit of `axis` that each belongs to: (n, ...)."""
    term = find(term)
    if isinstance(term, Axis):
        assert term is axis
        return values
    if isinstance(term, Cat):
        pieces = zip(values.split([part.n for part in term.parts]), term.parts, strict=True)
        found = [per_unit(piece, part, axis) for piece, part in pieces if axis in set(axes(part))]
        return torch.stack(found).sum(0)
    outer = axis.outer if isinstance(axis, Each) else None
    units = _units(term, axis)
    hit = units >= 0
    slots = units if outer is None else _units(term, outer) * axis.n + units
    total = values.new_zeros(axis.n if outer is None else outer.n * axis.n, *values.shape[1:])
    total.index_add_(0, slots[hit], values[hit])
    return total if outer is None else total.unflatten(0, (-1, axis.n))


def _units(term: Term, wanted: Term) -> torch.Tensor:
    """Which unit of `wanted` each position of a term belongs to; -1 for none."""
    term = find(term)
    if same(term, wanted):
        return torch.arange(term.n)
    if isinstance(term, Axis):
        return torch.full((term.n,), -1)
    if isinstance(term, Cat):
        return torch.cat([_units(part, wanted) for part in term.parts])
    sizes = [part.n for part in term.parts]
    span = next(places(term.parts, wanted), None)
    if span is not None:
        return _along(torch.arange(wanted.n), sizes, span)
    found = (_along(_units(part, wanted), sizes, range(i, i + 1)) for i, part in enumerate(term.parts))
    return torch.stack(list(found)).amax(0)


def _along(values: torch.Tensor, sizes: Sequence[int], span: range) -> torch.Tensor:
    """Values of the factors in `span`, for every position of a product of these sizes."""
    shape = [n if i in span else 1 for i, n in enumerate(sizes)]
    return values.view(shape).expand(sizes).reshape(-1)
