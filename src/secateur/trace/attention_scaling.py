"""Finds the rows to scale when heads shrink, because attention divides by the square root of the head size.

Normally the rows that compute the query are scaled. If the same rows compute both query and key (a shared projection,
or a shared norm after it), the rows of both are scaled by the fourth root, so that their product changes equally.

The rows of parameters that compute a query are found by running the recorded ops once on arrays of row numbers. The
query may be a sum or a `cat` of several such arrays (rotary embeddings, class tokens set aside). A head size is frozen
if the rows of its query are not found, or if something else uses them as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from secateur.graph.parts import Fold
from secateur.terms import Term, freeze
from secateur.trace.typed import Origin, Origins, Place, Typed

NONE = -1  # the row number of an element that has another origin
ALONE, BOTH = 0.5, 0.25  # powers for a query alone, and for query and key together
ParameterRows: TypeAlias = "dict[Place, frozenset[int]]"


@dataclass(frozen=True, slots=True)
class Query:
    """A query that is divided by the root of `size`, and the key that it is multiplied by; `where`: the source line."""

    size: Term
    origins: Origins
    key: Typed
    where: str


@dataclass(frozen=True, slots=True)
class _Factor:
    """Rows that are multiplied by (new size / old size) ** `power`."""

    rows: ParameterRows
    power: float


def place_folds(queries: Sequence[Query], others: Sequence[Typed]) -> list[Fold]:
    """Return the parameter rows to scale for each head size. `others`: all other tensors that were used."""
    folds: dict[tuple[str, int, tuple[tuple[int, int], ...]], Fold] = {}
    placed = [(query, _factor(query)) for query in queries]
    factors = [factor for _, factor in placed if factor is not None]
    keys = [query.key for query, factor in placed if factor is None or factor.power == ALONE]
    used = _used([*others, *keys], {place.name for factor in factors for place in factor.rows})
    for query, factor in placed:
        problem = _problem(factor, used, factors)
        if factor is None or problem is not None:
            freeze(query.size, f"attention divides by its square root, and the query {problem} ({query.where})")
            continue
        for place, numbers in factor.rows.items():
            ranges = _ranges(sorted(numbers))
            fold = Fold(place.name, place.dim, ranges, query.size, factor.power)
            folds.setdefault((place.name, place.dim, ranges), fold)
    return list(folds.values())


def _factor(query: Query) -> _Factor | None:
    """Return the rows that compensate for a change of head size; None if the query is not computed from rows alone."""
    rows, key = _made_of(query.origins), _made_of(query.key.origins)
    if rows is None:
        return None
    if key is None or all(numbers.isdisjoint(key.get(place, ())) for place, numbers in rows.items()):
        return _Factor(rows, ALONE)
    _add(rows, key)
    return _Factor(rows, BOTH)


def _problem(factor: _Factor | None, used: Mapping[Place, frozenset[int]], factors: Sequence[_Factor]) -> str | None:
    """Return why the rows of a query cannot be scaled, or None."""
    if factor is None:
        return "is not a plain layer output"
    for place, numbers in factor.rows.items():
        if not numbers.isdisjoint(used.get(place, ())):
            return "is used elsewhere as well"
        if any(_clash(numbers, factor.power, place, other) for other in factors):
            return "is part of another query"
    return None


def _clash(numbers: frozenset[int], power: float, place: Place, other: _Factor) -> bool:
    """Return whether another query scales some of these rows differently."""
    theirs = other.rows.get(place, frozenset())
    return not numbers.isdisjoint(theirs) and (theirs, other.power) != (numbers, power)


def _used(others: Iterable[Typed], wanted: set[str]) -> ParameterRows:
    """Return the rows of the `wanted` parameters that are used for something other than queries."""
    used: ParameterRows = {}
    for typed in others:
        for dim, place in enumerate(held.scaled if held is not None else None for held in typed.at or ()):
            if place is not None and place.name in wanted:
                _add(
                    used, {Place(place.name, place.dim): frozenset(range(place.start, place.start + typed.dims[dim].n))}
                )
        for origin in typed.origins:
            if any(place.name in wanted for place in origin.parameters):
                _add(used, _rows(origin))
    return used


def _add(total: ParameterRows, more: ParameterRows) -> None:
    for place, numbers in more.items():
        total[place] = total.get(place, frozenset()) | numbers


def _made_of(origins: Origins) -> ParameterRows | None:
    """Return the rows that all elements of a tensor are computed from; None if some elements cannot be scaled."""
    made: ParameterRows = {}
    for origin in origins:
        if not origin.parameters and bool((_numbers(origin) != NONE).any()):
            return None
        _add(made, _rows(origin))
    return made or None


def _rows(origin: Origin) -> ParameterRows:
    """Return, for each parameter dimension of an origin, the rows that remain after its steps."""
    seen = torch.zeros(origin.shape[origin.channel] + 1, dtype=torch.bool)
    seen[_numbers(origin).reshape(-1)] = True  # the last entry is for `NONE`
    channels = seen[:-1].nonzero().flatten().tolist()
    return {
        Place(place.name, place.dim): frozenset(place.start + channel for channel in channels)
        for place in origin.parameters
        if channels
    }


def _numbers(origin: Origin) -> torch.Tensor:
    """Return the channel that each element of the tensor comes from, or `NONE`."""
    shape = [1] * len(origin.shape)
    shape[origin.channel] = origin.shape[origin.channel]
    numbers: Any = torch.arange(origin.shape[origin.channel]).view(shape).expand(origin.shape)
    for name, arguments in origin.steps:
        numbers = _STEPS[name](numbers, *arguments) if name in _STEPS else _replayed(name, numbers, arguments)
    return numbers


def _piece(numbers: Sequence[torch.Tensor], k: int) -> torch.Tensor:
    """Return one of several results."""
    return numbers[k]


def _broadcast(numbers: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Broadcast to a larger shape."""
    return numbers.expand(tuple(shape))


def _placed(numbers: torch.Tensor, dim: int, start: int, size: int) -> torch.Tensor:
    """Place one part of a `cat` among the others."""
    shape = list(numbers.shape)
    shape[dim] = size
    whole = numbers.new_full(shape, NONE)
    whole.narrow(dim, start, numbers.shape[dim]).copy_(numbers)
    return whole


_STEPS: dict[str, Callable[..., Any]] = {"piece": _piece, "broadcast": _broadcast, "placed": _placed}


def _replayed(name: str, numbers: torch.Tensor, arguments: Sequence[Any]) -> Any:
    if name in ("aten::view", "aten::_unsafe_view"):
        return numbers.reshape(arguments[0])
    return getattr(torch.ops.aten, name.partition("::")[2])(numbers, *arguments)


def _ranges(rows: Sequence[int]) -> tuple[tuple[int, int], ...]:
    runs = []
    for _, run in itertools.groupby(enumerate(rows), key=lambda pair: pair[1] - pair[0]):
        numbers = [row for _, row in run]
        runs.append((numbers[0], numbers[-1] + 1))
    return tuple(runs)
