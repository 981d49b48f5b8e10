"""Separate choices of units: a `PerUnit` chooses for every outer unit, a `Case` for every unit of its selector.

Both exist only as long as the units that they depend on can be distinguished.
"""

from __future__ import annotations

from collections.abc import Sequence

from secateur.terms.term import ONE, Axis, Case, PerUnit, Term, axes, factors, find, in_case, leaves, product
from secateur.terms.unification import bind, merge


def pick(dims: Sequence[Term], i: int) -> list[list[Term]]:
    """Return the other dimensions once for each unit of dimension `i`, whose units are distinguished from here on.

    Axes that each of these units may choose for itself (such as the head dims of q, k and v) become separate axes.
    The caller must make sure that they keep equally many units.
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
    """Return whether each unit of the selector may have its own axis: both were factored out of the same axis."""
    outer = set(axes(axis.outer)) if axis.outer is not None else set()
    return bool(outer) and (selector in outer or any(find(part) is selector for part in axis.beside))


def _free_of(axis: PerUnit, selector: Axis) -> Axis:
    outer = [part for part in factors(axis.outer or ONE) if part is not selector]
    return PerUnit(axis.n, product(outer)) if outer else Axis(axis.n)


def mingle(dims: Sequence[Term], i: int) -> None:
    """Record that the units of dimension `i` are combined: no axis can be chosen separately for each of them."""
    for leaf in [leaf for dim in dims for leaf in leaves(dim) if isinstance(leaf, Case)]:
        if leaf in set(leaves(dims[i])) or not set(axes(leaf.selector)).isdisjoint(axes(dims[i])):
            merge(leaf)
    met = set(axes(dims[i]))
    for dim in (*dims[:i], *dims[i + 1 :]):
        for axis in axes(dim):
            if isinstance(axis, PerUnit) and axis.outer is not None and not met.isdisjoint(axes(axis.outer)):
                axis.outer = None
