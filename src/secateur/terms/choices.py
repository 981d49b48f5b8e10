"""Choices of one's own: an `Each` that chooses anew for every outer unit, a `Case` for each unit of its selector.

Both last only while the units that they depend on can be told apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import unification
from .term import ONE, Axis, Case, Cat, Each, Product, Term, axes, factors, find, in_case, leaves, product, same


def loose(dims: Sequence[Term]) -> list[Each]:
    """The Eachs in these dimensions whose outer units are not in sight there, or more than once."""
    if not any(isinstance(axis, Each) and axis.outer is not None for dim in dims for axis in axes(dim)):
        return []
    return list(dict.fromkeys(axis for axis, count in sights(product(dims)) if count != 1))


def sights(term: Term, beside: Sequence[Sequence[Term]] = ()) -> Iterator[tuple[Each, int]]:
    """Wherever an Each with outer units stands in a term: it, and how often these stand beside it on the way there."""
    term = find(term)
    if isinstance(term, Axis):
        if isinstance(term, Each) and term.outer is not None:
            yield term, sum(sightings(parts, term.outer) for parts in beside)
        return
    for i, part in enumerate(term.parts):
        more = (term.parts[:i], term.parts[i + 1 :]) if isinstance(term, Product) else ()
        yield from sights(part, (*beside, *more))


def settle(dims: Sequence[Term]) -> None:
    """Collapse each Each that can no longer tell in these dimensions which outer unit it belongs to, and each Case."""
    cases = [leaf for dim in dims for leaf in leaves(dim) if isinstance(leaf, Case)]
    if cases:
        seen = {axis for dim in dims for axis in axes(dim)}
        for case in cases:
            if not seen.issuperset(axes(case.selector)):
                merge(case)
    for axis in loose(dims):
        axis.outer = None


def merge(case: Case) -> None:
    """One axis for all cases."""
    if case.ref is None:
        for other in case.cases[1:]:
            unification.unify(case.cases[0], other)
        case.ref = find(case.cases[0])


def merged(term: Term) -> Term:
    """A term with all of its cases merged."""
    for leaf in list(leaves(term)):
        if isinstance(leaf, Case):
            merge(leaf)
    return find(term)


def pick(dims: Sequence[Term], i: int) -> list[list[Term]]:
    """The other dimensions for each unit of dimension i, which are told apart from here on.

    What each of these units may choose for itself (the head dims of q, k and v, say) goes separate ways; the counts
    stay equal, which is for the caller to say.
    """
    selector = find(dims[i])
    others = [dim for j, dim in enumerate(dims) if j != i]
    if isinstance(selector, Case) or not isinstance(selector, Axis):
        return [others] * selector.n
    for axis in [leaf for dim in others for leaf in leaves(dim)]:
        if isinstance(axis, Each) and axis.ref is None and axis.frozen is None and _chosen_by(axis, selector):
            unification.bind(axis, Case(selector, [_free_of(axis, selector) for _ in range(selector.n)]))
    return [[in_case(dim, selector, k) for dim in others] for k in range(selector.n)]


def _chosen_by(axis: Each, selector: Axis) -> bool:
    """Whether each unit of the selector may have an axis of its own: they were factored out of one."""
    outer = set(axes(axis.outer)) if axis.outer is not None else set()
    return bool(outer) and (selector in outer or any(find(part) is selector for part in axis.beside))


def _free_of(axis: Each, selector: Axis) -> Axis:
    outer = [part for part in factors(axis.outer or ONE) if part is not selector]
    return Each(axis.n, product(outer)) if outer else Axis(axis.n)


def mingle(dims: Sequence[Term], i: int) -> None:
    """The units of one dimension meet each other: what was chosen anew for each of them no longer can be."""
    for leaf in [leaf for dim in dims for leaf in leaves(dim) if isinstance(leaf, Case)]:
        if leaf in set(leaves(dims[i])) or not set(axes(leaf.selector)).isdisjoint(axes(dims[i])):
            merge(leaf)
    met = set(axes(dims[i]))
    for dim in (*dims[:i], *dims[i + 1 :]):
        for axis in axes(dim):
            if isinstance(axis, Each) and axis.outer is not None and not met.isdisjoint(axes(axis.outer)):
                axis.outer = None


def sightings(parts: Sequence[Term], outer: Term) -> int:
    """How often the factors of `outer` stand side by side among these, or in every part of a Cat among these."""
    count = sum(1 for _ in places(parts, outer))
    for part in parts:
        if isinstance(part, Cat) and not same(part, outer):
            inside = [sightings(factors(piece), outer) for piece in part.parts]
            count += max(inside) if all(inside) else 0
    return count


def places(parts: Sequence[Term], outer: Term) -> Iterator[range]:
    """The runs of factors that are those of `outer`."""
    wanted = factors(outer)
    for i in range(len(parts) - len(wanted) + 1):
        if all(map(same, parts[i : i + len(wanted)], wanted)):
            yield range(i, i + len(wanted))
