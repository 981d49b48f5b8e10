"""Values per unit: relates the positions of a dimension to the units of an axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from secateur.graph.consumers import Consumer
from secateur.graph.facts import Facts
from secateur.graph.parts import PrunableAxis
from secateur.terms import Axis, Cat, PerUnit, Term, axes, find, places, same


def shape_of(axis: PrunableAxis) -> tuple[int, ...]:
    """Return the shape of one number per unit: (n,), or (outer units, n) for an axis that is chosen per outer unit."""
    return (axis.size,) if axis.outer is None else (axis.outer.n, axis.size)


def readers_by_axis(graph: Facts) -> list[tuple[PrunableAxis, list[Consumer]]]:
    """Return each axis with the weights that read it."""
    found: dict[Axis, list[Consumer]] = {axis.term: [] for axis in graph.axes}
    for reader in graph.readers.values():
        for term in dict.fromkeys(axes(reader.channels)):
            if term in found:
                found[term].append(reader)
    return [(axis, found[axis.term]) for axis in graph.axes]


def per_unit(values: torch.Tensor, term: Term, axis: Axis) -> torch.Tensor:
    """Sum the values of a dimension, shape (positions, ...), by the unit of `axis` they belong to: (n, ...)."""
    if find(term) is axis:
        return values
    slots = _slots(term, axis)
    hit = slots >= 0
    outer = _outer_units(axis)
    total = values.new_zeros(outer * axis.n, *values.shape[1:]).index_add_(0, slots[hit], values[hit])
    return total if not isinstance(axis, PerUnit) or axis.outer is None else total.unflatten(0, (outer, axis.n))


def positions_by_unit(term: Term, axis: Axis) -> torch.Tensor:
    """Return the positions of a dimension that belong to each unit of `axis`: (units, positions per unit)."""
    if find(term) is axis:
        return torch.arange(axis.n).repeat(_outer_units(axis)).unsqueeze(1)
    slots = _slots(term, axis)
    order = slots.argsort(stable=True)[int((slots < 0).sum()) :]
    return order.view(_outer_units(axis) * axis.n, -1)


def holds_inner_units(term: Term, axis: Axis) -> bool:
    """Whether a term contains an axis whose units are chosen separately for every unit of `axis`."""
    return any(isinstance(a, PerUnit) and a.outer is not None and axis in set(axes(a.outer)) for a in axes(term))


def _outer_units(axis: Axis) -> int:
    return axis.outer.n if isinstance(axis, PerUnit) and axis.outer is not None else 1


def _slots(term: Term, axis: Axis) -> torch.Tensor:
    """Return the unit of `axis` for each position of a term, numbered across its outer units; -1 for none."""
    term = find(term)
    if isinstance(term, Cat):
        return torch.cat([_slots(part, axis) for part in term.parts])
    units = _units(term, axis)
    if not isinstance(axis, PerUnit) or axis.outer is None or isinstance(term, Axis):
        return units
    return torch.where(units >= 0, _units(term, axis.outer) * axis.n + units, -1)


def _units(term: Term, wanted: Term) -> torch.Tensor:
    """Return the unit of `wanted` that each position of a term belongs to; -1 for none."""
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
    """Return the values of the factors in `span` for every position of a product of these sizes."""
    shape = [n if i in span else 1 for i, n in enumerate(sizes)]
    return values.view(shape).expand(sizes).reshape(-1)
