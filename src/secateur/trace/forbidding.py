"""Finds axes that cannot shrink at all, because of comparisons in `forward` or attributes that must be integers.

Only conditions on a single tie are checked here; if several ties are involved, a plan may find counts that agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from secateur.graph.algebra import Opaque, Ratio
from secateur.graph.sizes import Attribute, Dim, Expr, SizeGuard, evaluate, holds, leaves
from secateur.terms import Axis, axes, size
from secateur.trace.solve import Solution, Tie

Counts = Mapping[Axis, int]
Check = Callable[[Counts], bool]


def forbidden(live: Iterable[Axis], solution: Solution, old: Mapping[Attribute, int]) -> Iterator[tuple[Tie, str]]:
    """Yield the ties that cannot lose any unit, with the condition that is broken first."""
    asked: dict[int, list[tuple[Check, str]]] = {}
    ties = {id(tie): tie for tie in (solution.ties[axis] for axis in live)}
    for read, check, where in _conditions(solution, old):
        owners = {id(solution.ties[axis]) for axis in read if axis in solution.ties} & ties.keys()
        if len(owners) == 1:
            asked.setdefault(owners.pop(), []).append((check, where))
    for key, conditions in asked.items():
        where = _against_all(ties[key], conditions)
        if where is not None:
            yield ties[key], where


def _against_all(tie: Tie, conditions: list[tuple[Check, str]]) -> str | None:
    """Return a broken condition if every smaller count breaks one; None if some count breaks none."""
    found = None
    for level in range(tie.steps - 1, 0, -1):
        counts = {axis: axis.n // tie.steps * level for axis in tie.members}
        broken = next((where for check, where in conditions if not check(counts)), None)
        if broken is None:
            return None
        found = found or broken
    return found


def _conditions(solution: Solution, old: Mapping[Attribute, int]) -> Iterator[tuple[set[Axis], Check, str]]:
    for attribute, ratio in solution.attributes.items():
        yield ratio.variables, _whole(ratio), f"{attribute}, an integer,"
    for guard in solution.guards:
        read = {axis for side in (guard.left, guard.right) for axis in _read(side, solution)}
        yield read, _kept(guard, solution, old), f"the comparison at {guard.where}"


def _read(expr: Expr, solution: Solution) -> Iterator[Axis]:
    for leaf in leaves(expr):
        if isinstance(leaf, Dim):
            yield from axes(leaf.term)
        elif leaf in solution.attributes:
            yield from solution.attributes[leaf].variables


def _whole(ratio: Ratio) -> Check:
    def check(counts: Counts) -> bool:
        try:
            ratio.at(lambda axis: counts.get(axis, axis.n))
        except Opaque:
            return False
        return True

    return check


def _kept(guard: SizeGuard, solution: Solution, old: Mapping[Attribute, int]) -> Check:
    def check(counts: Counts) -> bool:
        def value(leaf: Dim | Attribute) -> int:
            if isinstance(leaf, Dim):
                return size(leaf.term, counts)
            ratio = solution.attributes.get(leaf)
            return old[leaf] if ratio is None else ratio.at(lambda axis: counts.get(axis, axis.n))

        try:
            return holds(guard, lambda expr: evaluate(expr, value))
        except (Opaque, ZeroDivisionError):
            return False

    return check


__all__ = ["forbidden"]
