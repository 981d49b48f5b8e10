"""A share of every width, and its division among the axes whose product is the width.

If a width is a single axis, the axis keeps the share of its units, rounded down. If it is a product (heads times head
dimensions, groups times channels of each, channels times a depthwise multiplier), the product keeps the share, rounded
down to what its factors allow:

1. Bundles with a common product are treated together, with all widths that they are factors of.
2. One bundle goes to each of its rungs down to the share; the others follow one after another, as far down as the
   widest widths require.
3. Of these choices, those within `NEAR` of the least distance remain. The distance is between the logarithms of the
   kept share and of the requested share, averaged over the parameters along each width.
4. Of those, the choice that cuts the fewest factors of a width is taken; then the closest; then the one that cuts the
   axis with more units, so that coarse units (heads, groups) stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from secateur.graph.graph import Graph
from secateur.planning.selection.widths import Width, widths
from secateur.planning.solver.bundles import Bundle
from secateur.planning.solver.rungs import Chosen

NEAR = 0.03
TRIED = 64  # rungs of one bundle that are tried
State = tuple[int, ...]  # a rung for each member


def spread(graph: Graph, bundles: Sequence[Bundle], share: float) -> Chosen:
    """Return the highest rungs on which every width is within a share of its units."""
    start = np.array([bundle.first(share) for bundle in bundles], dtype=np.intp)
    if share >= 1:
        return start
    known: dict[Meeting, State] = {}
    for members, meeting in _meetings(graph, bundles, share):
        if meeting not in known:
            known[meeting] = meeting.best()
        start[list(members)] = known[meeting]
    return start


def _meetings(graph: Graph, bundles: Sequence[Bundle], share: float) -> Iterator[tuple[State, Meeting]]:
    """Yield the bundles with common widths, by index, and their Meeting (rule 1)."""
    place = {g: (b, i) for b, bundle in enumerate(bundles) for i, g in enumerate(bundle.groups)}
    made = [(width, [place[graph.axes[i].group] for i in width.axes]) for width in widths(graph)]
    leader = list(range(len(bundles)))
    for _, factors in made:
        low = min(leader[b] for b, _ in factors)
        old = {leader[b] for b, _ in factors}
        leader = [low if one in old else one for one in leader] if len(old) > 1 else leader
    for first in sorted({one for one in leader if leader.count(one) > 1}):
        members = tuple(b for b, one in enumerate(leader) if one == first)
        mine = [(width, factors) for width, factors in made if leader[factors[0][0]] == first]
        yield members, _meeting([bundles[b] for b in members], members, mine, share)


def _meeting(
    bundles: Sequence[Bundle], members: State, made: Sequence[tuple[Width, list[tuple[int, int]]]], share: float
) -> Meeting:
    total = sum(width.params for width, _ in made) or 1.0
    parts = tuple(
        _Part(tuple((members.index(b), i) for b, i in factors), round(width.params / total, 9), width.widest)
        for width, factors in made
    )
    return Meeting(tuple(b.levels for b in bundles), tuple(b.steps for b in bundles), parts, share)


@dataclass(frozen=True)
class _Part:
    """A width: its factors as (member, group of the member), and its share of the parameters."""

    factors: tuple[tuple[int, int], ...]
    weight: float
    widest: bool


@dataclass(frozen=True)
class Meeting:
    """Bundles with common products: `levels[m][rung][i]` of `steps[m][i]` steps of the i-th group of member m."""

    levels: tuple[tuple[tuple[int, ...], ...], ...]
    steps: tuple[tuple[int, ...], ...]
    parts: tuple[_Part, ...]
    share: float

    def best(self) -> State:
        """Return the best choice, by rules 3 and 4."""
        found = {state: self._distance(state) for state in self._choices()}
        near = min(found.values()) + NEAR
        return min(
            (state for state, distance in found.items() if distance <= near), key=lambda s: self._order(s, found)
        )

    def _order(self, state: State, distance: dict[State, float]) -> tuple[float, ...]:
        cut = [m for m, rung in enumerate(state) if rung]
        most = max(sum(m in cut for m, _ in part.factors) for part in self.parts)
        return (most, round(distance[state], 9), -max((max(self.steps[m]) for m in cut), default=0), *state)

    def _choices(self) -> Iterator[State]:
        """Yield the choices of rule 2."""
        members = range(len(self.levels))
        for hub in members:
            others = [m for m in members if m != hub]
            for rung in self._rungs(hub):
                for order in (others, others[::-1]):
                    yield self._filled(hub, rung, order)

    def _rungs(self, hub: int) -> list[int]:
        last = next(
            (rung for rung in range(len(self.levels[hub])) if self._kept(hub, rung) <= self.share + 1e-9),
            len(self.levels[hub]) - 1,
        )
        return sorted({round(i * last / TRIED) for i in range(TRIED + 1)})

    def _kept(self, member: int, rung: int) -> float:
        """Return the greatest share that a group of the member keeps."""
        return max(level / n for level, n in zip(self.levels[member][rung], self.steps[member], strict=True))

    def _filled(self, hub: int, rung: int, others: Sequence[int]) -> State:
        state = [0] * len(self.levels)
        state[hub] = rung
        for member in others:
            asked = [part for part in self.parts if part.widest and any(m == member for m, _ in part.factors)]
            while state[member] + 1 < len(self.levels[member]) and any(
                self._share(p, state) > self.share for p in asked
            ):
                state[member] += 1
        return self._climbed(state)

    def _climbed(self, state: list[int]) -> State:
        """Return the state after each member has climbed as high as the widest widths allow."""
        for member in range(len(state)):
            while state[member] and all(self._share(p, state, up=member) <= self.share for p in self.parts if p.widest):
                state[member] -= 1
        return tuple(state)

    def _distance(self, state: State) -> float:
        return sum(part.weight * self._off(part, state) for part in self.parts)

    def _off(self, part: _Part, state: State) -> float:
        share = self._share(part, state)
        above = 10.0 if part.widest and share > self.share else 1.0
        return above * abs(math.log(share / self.share))

    def _share(self, part: _Part, state: Sequence[int], up: int | None = None) -> float:
        """Return the share of a width that remains, with member `up` a rung higher, less a tolerance for rounding."""
        kept = math.prod(self.levels[m][state[m] - (m == up)][i] for m, i in part.factors)
        return kept / math.prod(self.steps[m][i] for m, i in part.factors) - 1e-12


__all__ = ["spread"]
