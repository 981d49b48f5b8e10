"""Choices of one's own: an `PerUnit` that chooses anew for every outer unit, a `Case` for each unit of its selector.

Both last only while the units that they depend on can be told apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from secateur.terms.term import ONE, Axis, Case, PerUnit, Term, axes, factors, find, in_case, leaves, product
from secateur.terms.unification import bind, merge


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
        if isinstance(axis, PerUnit) and axis.ref is None and axis.frozen is None and _chosen_by(axis, selector):
            bind(axis, Case(selector, [_free_of(axis, selector) for _ in range(selector.n)]))
    return [[in_case(dim, selector, k) for dim in others] for k in range(selector.n)]


def _chosen_by(axis: PerUnit, selector: Axis) -> bool:
    """Whether each unit of the selector may have an axis of its own: they were factored out of one."""
    outer = set(axes(axis.outer)) if axis.outer is not None else set()
    return bool(outer) and (selector in outer or any(find(part) is selector for part in axis.beside))


def _free_of(axis: PerUnit, selector: Axis) -> Axis:
    outer = [part for part in factors(axis.outer or ONE) if part is not selector]
    return PerUnit(axis.n, product(outer)) if outer else Axis(axis.n)


def mingle(dims: Sequence[Term], i: int) -> None:
    """The units of one dimension meet each other: what was chosen anew for each of them no longer can be."""
    for leaf in [leaf for dim in dims for leaf in leaves(dim) if isinstance(leaf, Case)]:
        if leaf in set(leaves(dims[i])) or not set(axes(leaf.selector)).isdisjoint(axes(dims[i])):
            merge(leaf)
    met = set(axes(dims[i]))
    for dim in (*dims[:i], *dims[i + 1 :]):
        for axis in axes(dim):
            if isinstance(axis, PerUnit) and axis.outer is not None and not met.isdisjoint(axes(axis.outer)):
                axis.outer = None
