"""Removal of whole blocks: those dropped by hand, and the least important ones until a depth target is met.

A depth target counts all blocks, including those that must stay: with twelve blocks, `"depth=0.75"` and `"depth=9"`
both leave nine. Blocks are removed first. Widths are then chosen within the remaining blocks, which must meet all other
targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from secateur.base.names import inside
from secateur.base.text import counted as counted_text
from secateur.cost.kinds import DEPTH
from secateur.errors import InputError, TargetError
from secateur.graph.blocks import block_of, without
from secateur.graph.graph import Graph
from secateur.graph.parts import Block
from secateur.importance import Criterion, Scores, check_needs, is_ready, named_criterion, score_blocks
from secateur.planning.selection.limits_by_axis import Wishes
from secateur.planning.targets import Target
from secateur.statistics.sums import Statistics

ALL = "all"  # the value in `drop` that removes a whole block


def split_by_hand(drop: Mapping[str, Sequence[int] | str]) -> tuple[list[str], dict[str, Sequence[int]]]:
    """Return the blocks and the units by axis that `drop` names. Raises `InputError` for a string other than "all"."""
    if not isinstance(drop, Mapping):
        raise InputError(f"drop={drop!r} is not a mapping\ngive units by axis name, as in drop={{'conv1': [2, 6, 9]}}")
    blocks: list[str] = []
    units: dict[str, Sequence[int]] = {}
    for name, what in drop.items():
        if not isinstance(what, str):
            units[name] = what
        elif what == ALL:
            blocks.append(name)
        else:
            raise InputError(
                f"drop={{{name!r}: {what!r}}}: the value is unknown\ngive a list of units, or 'all' for a block"
            )
    return blocks, units


def shortened(
    wishes: Wishes,
    targets: Sequence[Target],
    *,
    by_hand: Sequence[str],
    importance: str | Criterion | Scores,
    statistics: Statistics | None,
    seed: int,
) -> Wishes:
    """Return the same wishes on the Graph without the removed blocks."""
    graph = wishes.graph
    gone = {block_of(graph, name).name for name in by_hand}
    for name in gone:
        by = wishes.keeps(name)
        if by is not None:
            raise InputError(f"drop removes the block {name!r}, which {by} keeps as it is")
    goals = [target for target in targets if target.kind == DEPTH]
    if goals:
        scores = _scores(graph, importance, statistics, seed)
        gone |= _least_important(wishes, goals, gone, scores)
    return wishes.about(without(graph, gone)) if gone else wishes


def _least_important(wishes: Wishes, goals: Sequence[Target], gone: set[str], scores: Mapping[str, float]) -> set[str]:
    """Return further blocks to remove, lowest score first; on a tie the later block is removed."""
    counted = [block for block in wishes.graph.blocks if block.counts]
    left = [block for block in counted if not inside(block.name, gone)]
    free = [block for block in left if block.why is None and wishes.keeps(block.name) is None]
    goal = min(goals, key=lambda target: target.limit(len(counted)))
    if counted and goal.value > max(1, len(counted)):
        raise TargetError(
            f"target {goal}: the model has only {counted_text(len(counted), 'block')}\n"
            "give a share of up to 1, as in 'depth=0.5', or a smaller count"
        )
    excess = len(left) - goal.limit(len(counted))
    if excess > len(free) or excess >= len(left):
        raise _unreachable(goal, counted, left, free)
    ranked = sorted(range(len(free)), key=lambda i: (scores[free[i].name], -i))
    return {free[i].name for i in ranked[: max(excess, 0)]}


def _unreachable(goal: Target, counted: Sequence[Block], left: Sequence[Block], free: Sequence[Block]) -> TargetError:
    if not counted:
        return TargetError(f"target {goal}: this model has no block that can be bypassed")
    least = max(len(left) - len(free), 1)
    staying = [f"  {block.name}: {block.why}" for block in left if block.why is not None]
    head = f"target {goal} cannot be reached: at least {least} of {len(counted)} blocks must stay (depth={least})"
    return TargetError("\n".join([head, *staying[:5], "print(graph) lists all blocks; protect may keep more of them"]))


def _scores(
    graph: Graph, importance: str | Criterion | Scores, statistics: Statistics | None, seed: int
) -> dict[str, float]:
    if is_ready(importance):
        given = {name: torch.as_tensor(value) for name, value in importance.items()}
        return {b.name: float(given[b.name]) if b.name in given else 1.0 for b in graph.blocks if b.counts}
    criterion = named_criterion(importance, seed)
    check_needs(criterion, statistics)
    return score_blocks(graph, criterion, statistics)
