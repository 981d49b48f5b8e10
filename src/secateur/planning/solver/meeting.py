"""Search for counts that meet the targets and all conditions that read several groups.

If a plan breaks such a condition, the group with the most rungs is adapted to the others. The others stay on their
rungs of that plan, and the adapted group keeps only the rungs at which the condition is true. So a hidden size becomes
a multiple of the remaining heads. If this does not meet the targets, the others are tried on nearby rungs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from secateur.base.text import listed
from secateur.cost.size_polynomials import Counts
from secateur.errors import InputError, TargetError
from secateur.planning.selection.conditions import Conditions, CountCondition, count_at
from secateur.planning.selection.widths import Floor
from secateur.planning.solver.allocate import Limits
from secateur.planning.solver.bundles import Bundle
from secateur.planning.solver.floors import solved_above
from secateur.planning.targets import Target

TRIES = 64  # plans that are tried before the search stops
SHOWN = 6  # counts that a message suggests


class CountsSearch:
    """A search for counts within targets and floors; the groups in `asked` stay on their highest rung."""

    def __init__(
        self,
        conditions: Conditions,
        floors: Sequence[Floor],
        targets: Sequence[Target],
        scope: str,
        asked: frozenset[int],
    ):
        self._conditions, self._graph, self._asked = conditions, conditions.graph, asked
        self._floors = floors
        self._targets, self._scope, self._left = targets, scope, TRIES

    def counts(self, bundles: Sequence[Bundle]) -> Counts:
        """Return the counts. Raises `TargetError` or `InputError` if targets or conditions cannot be met."""
        limits = Limits.of(self._graph, self._targets)
        found = solved_above(self._floors, self._graph, bundles, limits, self._targets, self._scope)
        broken = list(self._conditions.broken(found))
        if not broken:
            return found
        refusal: InputError | None = None
        for way in self._ways(broken[0], broken, bundles, self._conditions.levels(found)):
            if not self._left:
                break
            self._left -= 1
            try:
                return self.counts(way)
            except (TargetError, InputError) as error:
                refusal = refusal or error
        raise refusal or self._refused(broken[0], self._conditions.levels(found))

    def _ways(
        self, first: CountCondition, broken: Sequence[CountCondition], bundles: Sequence[Bundle], levels: dict[int, int]
    ) -> Iterator[list[Bundle]]:
        """Yield bundles in which a broken condition holds, and any others that read the same groups."""
        alike = [condition for condition in broken if condition.groups == first.groups]
        owners = [i for i, b in enumerate(bundles) if len(b.levels) > 1 and not first.groups.isdisjoint(b.groups)]
        if not owners:
            return
        owners.sort(key=lambda i: -len(bundles[i].levels))
        leader, *others = owners
        for rungs in _rungs([bundles[i] for i in others], levels):
            made = list(bundles)
            for i, rung in zip(others, rungs, strict=True):
                made[i] = bundles[i].at(rung)
            fixed = {**levels, **{g: n for i in others for g, n in zip(made[i].groups, made[i].levels[0], strict=True)}}
            left = self._true(alike, bundles[leader], fixed)
            falls = [i for i, rung in zip(others, rungs, strict=True) if rung] + ([] if left[0] else [leader])
            if left.any() and all(self._asked.isdisjoint(bundles[i].groups) for i in falls):
                made[leader] = bundles[leader].only(left)
                yield made

    def _true(self, conditions: Sequence[CountCondition], bundle: Bundle, levels: dict[int, int]) -> np.ndarray:
        """Return for each rung of a bundle whether conditions hold there, with all other groups unchanged."""
        columns = dict(zip(bundle.groups, np.array(bundle.levels).T, strict=True))
        left = np.ones(len(bundle.levels), dtype=bool)
        for condition in conditions:
            left &= condition.holds(self._graph, {g: columns.get(g, levels[g]) for g in condition.groups})
        return left

    def _refused(self, condition: CountCondition, levels: dict[int, int]) -> InputError:
        return InputError(f"no plan keeps this condition true: {condition.where}{self._instead(condition, levels)}")

    def _instead(self, condition: CountCondition, levels: dict[int, int]) -> str:
        """Describe the nearest counts of each group at which the condition is true, with all other groups unchanged."""
        told = []
        for g in sorted(condition.groups):
            group = self._graph.groups[g]
            axis, steps = group.axes[0], np.arange(1, group.steps + 1)
            true = np.broadcast_to(condition.holds(self._graph, {**_of(condition, levels), g: steps}), steps.shape)
            near = sorted(steps[true].tolist(), key=lambda n: abs(n - levels[g]))[:SHOWN]
            if near:
                counts = [str(count_at(self._graph, axis, n)) for n in sorted(near)]
                told.append(f"{axis.name} may keep {listed(counts, SHOWN)} of {axis.size}")
        return f"\nwith all other counts as requested, {'; or '.join(told)}" if told else ""


def _of(condition: CountCondition, levels: dict[int, int]) -> dict[int, int]:
    return {g: levels[g] for g in condition.groups}


def _rungs(bundles: Sequence[Bundle], levels: dict[int, int]) -> Iterator[tuple[int, ...]]:
    """Yield rungs to try: the present ones, then nearby ones of a single bundle, or the highest of several."""
    here = tuple(bundle.levels.index(tuple(levels[g] for g in bundle.groups)) for bundle in bundles)
    yield here
    if len(bundles) == 1:
        (at,) = here
        near = sorted(range(len(bundles[0].levels)), key=lambda rung: (abs(rung - at), rung))
        yield from ((rung,) for rung in near if rung != at)
    elif any(here):
        yield (0,) * len(bundles)


__all__ = ["CountsSearch"]
