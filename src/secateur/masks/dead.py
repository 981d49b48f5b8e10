"""Dead units: those that do not change the output, because the weights that produce or all that read them are zero.

The zeros may come from masks or be values of the weights. A unit whose weights are zero outputs zero only if no bias is
added, and is zero where it is read only if the operations between keep zeros (sigmoid(0) is 1/2); a unit that no weight
reads may have any value. Tracing the model again (`secateur.trace.zeros`) decides which is the case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from secateur.anatomy.slots import slots
from secateur.graph.graph import Graph
from secateur.graph.parts import PrunableAxis, SiteUse
from secateur.graph.units import positions_by_unit
from secateur.plan.plan import Plan
from secateur.planning import plan
from secateur.planning.by_counts import whole
from secateur.terms import Axis, Cat, Term, find, positions
from secateur.trace.tracing import trace
from secateur.trace.zeros import Use, still_exact


def dead(graph: Graph) -> dict[str, list[int]]:
    """Return the units that can be dropped without a change of the output in evaluation mode.

    Units that only dead units read are dead too. Only as many are returned as a plan may drop: tied axes lose the same
    share, and no axis loses all of its units.

    Args:
        graph: A trace of the model.

    Returns:
        The dead units by the name of their axis, for `secateur.plan(graph, drop=dead(graph))`.

    Example:
        >>> import secateur, torch
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2))
        >>> _ = net[0].weight.data[1].zero_(), net[0].bias.data[1].zero_(), net[2].weight.data[:, 3].zero_()
        >>> dead(secateur.trace(net, torch.zeros(1, 3)))  # unit 1 is sigmoid(0) = 1/2 and is read; unit 3 is not read
        {'0': [3]}
    """
    axes = [axis for axis in graph.axes if axis.inexact is None]
    zeros = _Zeros(graph, axes)
    found: dict[str, set[int]] = {axis.name: set() for axis in axes}
    refuted: set[_Case] = set()
    while True:
        classes = {axis.name: _classes(zeros, axis, found[axis.name], refuted) for axis in axes}
        if not any(classes.values()):
            return _allowed(graph, found)
        for chosen in _rounds(classes):
            exact = _exact(graph, axes, chosen)
            for name, one in chosen.items():
                found[name].update(one.units if name in exact else ())
                refuted.update([] if name in exact else [(name, one.zero)])
        for axis in axes:
            zeros.silence(axis, found[axis.name])


def plan_of_dead(model: nn.Module, example_inputs: Any, **options: Any) -> Plan:
    """Return the plan that drops dead units, empty where there are none. options: those of `secateur.trace`."""
    graph = trace(model, example_inputs, **options)
    drop = dead(graph)
    return plan(graph, drop=drop) if drop else whole(graph)


_Case: TypeAlias = "tuple[str, frozenset[Use]]"


@dataclass(frozen=True, slots=True)
class _Class:
    """Units of an axis whose slices are zero in the same tensors."""

    zero: frozenset[Use]
    units: tuple[int, ...]


class _Zeros:
    """The tensors in which the slices of units are zero."""

    def __init__(self, graph: Graph, axes: Sequence[PrunableAxis]):
        wanted = {use.name for axis in axes for use in axis.sites}
        self._filled = {
            slot.name: (slot.tensor.detach() != 0).cpu() for slot in slots(graph.model) if slot.name in wanted
        }
        self._dims = {name: graph.sites[name].dims for name in wanted}
        self._known: dict[tuple[str, Use], Tensor] = {}

    def of(self, axis: PrunableAxis, use: Use) -> Tensor:
        """Return whether the slice of each unit of an axis is zero in a tensor: bools (n,).

        A unit that is chosen separately for every outer unit counts as zero if it is zero for all of them.
        """
        name, dim = use
        filled = self._filled[name]
        rows = filled.movedim(dim, 0).reshape(filled.shape[dim], -1).any(1)
        return ~rows[self._places(axis, use)].any(-1).any(0)

    def silence(self, axis: PrunableAxis, units: set[int]) -> None:
        """Treat the slices of these units as zero everywhere, as if they were dropped."""
        for use in axis.sites:
            places = self._places(axis, (use.name, use.dim))[:, sorted(units)].flatten()
            self._filled[use.name].index_fill_(use.dim, places, False)

    def _places(self, axis: PrunableAxis, use: Use) -> Tensor:
        """Return the positions of each unit: (outer units, n, positions of each)."""
        key = (axis.name, use)
        if key not in self._known:
            self._known[key] = places_of(axis, self._dims[use[0]][use[1]])
        return self._known[key]


def places_of(axis: PrunableAxis, term: Term) -> Tensor:
    """Return the positions of a dimension that belong to each unit of an axis: (outer units, n, positions of each).

    The first size is 1 where units are not chosen separately for each outer unit, and where an axis occurs twice.
    """
    if _meetings(term, axis.term) < 2:
        return positions_by_unit(term, axis.term).unflatten(0, (-1, axis.size))
    rows, outer = [], axis.outer
    for unit in range(axis.size):
        others = tuple(i for i in range(axis.size) if i != unit)
        stay = positions(term, {axis.term: others if outer is None else (others,) * outer.n})
        rows.append(sorted(set(range(term.n)).difference(stay)))
    return torch.tensor(rows).unsqueeze(0)


def _meetings(term: Term, axis: Axis) -> int:
    """Return how often an axis occurs in a product; twice where every head is paired with every other."""
    term = find(term)
    if isinstance(term, Axis):
        return int(term is axis)
    counts = [_meetings(part, axis) for part in term.parts]
    return max(counts) if isinstance(term, Cat) else sum(counts)


def _classes(zeros: _Zeros, axis: PrunableAxis, dead: set[int], refuted: set[_Case]) -> list[_Class]:
    """Return the remaining units grouped by where they are zero, most zeros first, without those known to be alive."""
    at = {(use.name, use.dim): zeros.of(axis, (use.name, use.dim)) for use in axis.sites}
    units: dict[frozenset[Use], list[int]] = {}
    for unit in range(axis.size):
        if unit not in dead:
            units.setdefault(frozenset(use for use, zero in at.items() if zero[unit]), []).append(unit)
    found = [_Class(zero, tuple(members)) for zero, members in units.items() if _may_be_dead(axis, zero)]
    return sorted((one for one in found if (axis.name, one.zero) not in refuted), key=lambda one: -len(one.zero))


def _may_be_dead(axis: PrunableAxis, zero: frozenset[Use]) -> bool:
    """Return whether all weights that read a unit, or all that produce it, may be zero; else no trace is needed.

    A weight is zero where one of its factors is, and a factor (a mask) is in the same module or below it.
    """

    def near(use: SiteUse, others: Iterable[Use]) -> bool:
        home = use.name.rpartition(".")[0]
        return any(dim == use.dim and (not home or name.startswith(f"{home}.")) for name, dim in others)

    def silent(role: str) -> bool:
        return all(near(use, zero) for use in axis.sites if use.role == role)

    scales = [use for use in axis.sites if use.role == "scale" and (use.name, use.dim) in zero]
    weights = [use for use in axis.sites if use.role in ("input", "output")]
    scaled = any(not any(near(weight, [(scale.name, scale.dim)]) for weight in weights) for scale in scales)
    return bool(zero) and (scaled or silent("input") or silent("output"))


def _rounds(classes: Mapping[str, Sequence[_Class]]) -> Iterator[dict[str, _Class]]:
    """Yield one class of each axis at a time, so that one trace decides about all of them."""
    for i in range(max(map(len, classes.values()))):
        yield {name: ordered[i] for name, ordered in classes.items() if i < len(ordered)}


def _exact(graph: Graph, axes: Sequence[PrunableAxis], chosen: Mapping[str, _Class]) -> set[str]:
    """Return the axes whose chosen units do not change the output."""
    flags: dict[Use, bool] = {}
    for axis in axes:
        if axis.name in chosen:
            for use in ((use.name, use.dim) for use in axis.sites):
                flags[use] = flags.get(use, True) and use in chosen[axis.name].zero
    found = still_exact(graph, flags)
    return {
        axis.name
        for axis in axes
        if axis.name in chosen and frozenset((use.name, use.dim) for use in axis.sites) in found
    }


def _allowed(graph: Graph, found: Mapping[str, set[int]]) -> dict[str, list[int]]:
    """Return as many units as a plan may drop: tied axes lose the same share in whole steps, and keep their minimum."""
    drop = {}
    for group in graph.groups:
        level = min(_steps_of(axis, group.steps, len(found.get(axis.name, ()))) for axis in group.axes)
        for axis in group.axes:
            if level:
                drop[axis.name] = sorted(found[axis.name])[: level * (axis.size // group.steps)]
    return drop


def _steps_of(axis: PrunableAxis, steps: int, count: int) -> int:
    """Return how many steps an axis can be reduced by, dropping at most `count` units."""
    each = axis.size // steps
    levels = range(min(count, axis.size - axis.least) // each, 0, -1)
    return next((level for level in levels if (axis.size - level * each) % axis.multiple == 0), 0)


__all__ = ["dead", "plan_of_dead"]
