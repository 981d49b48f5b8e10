"""What a criterion sees of an axis: sums over the slices that belong to each of its units."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from ..graph import PrunableAxis, SiteUse
from ..terms import Axis, Cat, Each, Term, axes, factors, find, same


class AxisSlices:
    """The parameters of one axis, by role ("output", "input", "scale", "shift", "statistic")."""

    def __init__(self, axis: PrunableAxis, tensors: Mapping[str, torch.Tensor], dims: Mapping[str, tuple[Term, ...]]):
        self.axis = axis
        self._tensors = tensors
        self._dims = dims

    @property
    def name(self) -> str:
        return self.axis.name

    @property
    def shape(self) -> tuple[int, ...]:
        """(n,), or (outer units, n) for an axis that is chosen anew per outer unit."""
        outer = self.axis.outer
        return (self.axis.size,) if outer is None else (outer.n, self.axis.size)

    def has(self, role: str) -> bool:
        """Whether any parameter plays this role for the axis."""
        return any(True for _ in self._uses(role))

    def power_sum(self, role: str, p: float) -> torch.Tensor:
        """Sum of |w|^p over each unit's slices of every parameter of that role. Gives `shape`, float64."""
        total = torch.zeros(self.shape, dtype=torch.float64)
        for use in self._uses(role):
            tensor = self._tensors[use.name].detach()
            others = [d for d in range(tensor.dim()) if d != use.dim]
            whole = tensor if tensor.dtype == torch.float64 else tensor.float()
            norms = torch.linalg.vector_norm(whole, p, others) if others else whole.abs()
            total += _per_unit(norms.double().cpu() ** p, self._dims[use.name][use.dim], self.axis.term)
        return total

    def _uses(self, role: str) -> list[SiteUse]:
        return [use for use in self.axis.sites if use.role == role and use.name in self._tensors]


def _per_unit(values: torch.Tensor, term: Term, axis: Axis) -> torch.Tensor:
    """Sum the values of a dimension's positions by the unit of `axis` that each belongs to."""
    term = find(term)
    if isinstance(term, Axis):
        assert term is axis
        return values
    if isinstance(term, Cat):
        pieces = zip(values.split([part.n for part in term.parts]), term.parts, strict=True)
        found = [_per_unit(piece, part, axis) for piece, part in pieces if axis in set(axes(part))]
        return torch.stack(found).sum(0)
    grid = values.reshape([part.n for part in term.parts])
    i = next(i for i, part in enumerate(term.parts) if axis in set(axes(part)))
    kept = [*_outer_span(term.parts, i, axis), i]
    sums = grid.sum([d for d in range(grid.dim()) if d not in kept]) if grid.dim() > len(kept) else grid
    return sums.reshape(-1, axis.n) if len(kept) > 1 else _per_unit(sums, term.parts[i], axis)


def _outer_span(parts: tuple[Term, ...], i: int, axis: Axis) -> list[int]:
    if not isinstance(axis, Each) or axis.outer is None:
        return []
    wanted = factors(axis.outer)
    for at in range(i - len(wanted), -1, -1):
        if all(map(same, parts[at : at + len(wanted)], wanted)):
            assert math.prod(p.n for p in wanted) == axis.outer.n
            return list(range(at, at + len(wanted)))
    raise AssertionError(f"{axis} without its outer units in {parts}")
