"""Checks of a `channels` target: whether any axis was cut, and which conditions kept an axis above its share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from secateur.cost.kinds import CHANNELS
from secateur.cost.size_polynomials import Counts
from secateur.errors import TargetError
from secateur.graph.frozen_text import holding_out
from secateur.planning.selection.limits_by_axis import Wishes
from secateur.planning.targets import Target

SHOWN = 3


def _share(targets: Sequence[Target]) -> Target | None:
    """Return the target with the smallest share of the channels, or None."""
    asked = [target for target in targets if target.kind == CHANNELS and target.value < 1]
    return min(asked, key=lambda target: target.value, default=None)


def check_cut(wishes: Wishes, targets: Sequence[Target], counts: Counts) -> None:
    """Raise `TargetError` if a share of the channels was requested and no channel can be removed."""
    asked, graph = _share(targets), wishes.graph
    if asked is None or graph.reduced.removed or any(counts != graph.cost.full):
        return
    asks = dict.fromkeys(condition.where for condition in wishes.conditions.all)
    told = [f"{where} must keep its outcome" for where in list(asks)[:SHOWN]]
    told = [f"target {asked} cannot be reached: no axis can lose a unit", *told, *holding_out(graph)]
    raise TargetError("\n".join([*told, "see print(graph) for what is frozen and why"]))


def held_back(wishes: Wishes, targets: Sequence[Target], counts: Counts) -> dict[str, str]:
    """Return a note on the axes that keep more than their share because a comparison in the code requires it."""
    asked, graph = _share(targets), wishes.graph
    if asked is None:
        return {}
    told = []
    for axis, count in zip(graph.axes, counts, strict=True):
        steps = graph.groups[axis.group].steps
        wanted = max(1, math.floor(asked.value * steps + 1e-9))
        if int(count) * steps > wanted * axis.size and axis.group not in wishes.held:
            where = wishes.conditions.against(axis.group, wanted)
            told += [f"{axis.name} keeps {int(count)} of {axis.size} by {where}"] if where else []
    more = f"; and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return {"held": "; ".join(told[:SHOWN]) + more} if told else {}


__all__ = ["check_cut", "held_back"]
