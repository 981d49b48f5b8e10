"""Where the outer units of a `PerUnit` are visible: only next to them does it have a separate choice of units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from secateur.terms.term import Axis, Cat, PerUnit, Product, Term, axes, factors, find, product, same


def loose(dims: Sequence[Term]) -> list[PerUnit]:
    """Return the `PerUnit` axes in these dimensions whose outer units do not occur there exactly once."""
    if not any(isinstance(axis, PerUnit) and axis.outer is not None for dim in dims for axis in axes(dim)):
        return []
    return list(dict.fromkeys(axis for axis, count in sights(product(dims)) if count != 1))


def sights(term: Term, beside: Sequence[Sequence[Term]] = ()) -> Iterator[tuple[PerUnit, int]]:
    """Yield each `PerUnit` that has an outer term, and how often this outer term occurs in the products around it."""
    term = find(term)
    if isinstance(term, Axis):
        if isinstance(term, PerUnit) and term.outer is not None:
            yield term, sum(sightings(parts, term.outer) for parts in beside)
        return
    for i, part in enumerate(term.parts):
        more = (term.parts[:i], term.parts[i + 1 :]) if isinstance(term, Product) else ()
        yield from sights(part, (*beside, *more))


def sightings(parts: Sequence[Term], outer: Term) -> int:
    """Return how often the factors of `outer` occur as a run in these parts, or in every part of a Cat among them."""
    count = sum(1 for _ in places(parts, outer))
    for part in parts:
        if isinstance(part, Cat) and not same(part, outer):
            inside = [sightings(factors(piece), outer) for piece in part.parts]
            count += max(inside) if all(inside) else 0
    return count


def places(parts: Sequence[Term], outer: Term) -> Iterator[range]:
    """Yield the index ranges at which the factors of `outer` occur in `parts`."""
    wanted = factors(outer)
    for i in range(len(parts) - len(wanted) + 1):
        if all(map(same, parts[i : i + len(wanted)], wanted)):
            yield range(i, i + len(wanted))
