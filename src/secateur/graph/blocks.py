"""Depth pruning: blocks that can be bypassed, and the Graph of the model without some of them.

A residual block adds something to its input, so its input and output have the same units and the rest of the network
still fits together without the block. Bypassing a block does not change which dimensions are coupled: `without` only
leaves out the contents of the block. The remaining axes are chosen, cut and counted as on any other Graph.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import TypeVar

from secateur.base.names import above, inside
from secateur.errors import InputError, nearest
from secateur.graph.facts import Facts
from secateur.graph.parts import Block, Group, PrunableAxis
from secateur.graph.sections import Reduced
from secateur.terms import Axis

F = TypeVar("F", bound=Facts)


def block_of(graph: Facts, name: str) -> Block:
    """Return the block of that name. Raises `InputError` if there is none, or if it must stay."""
    blocks = {block.name: block for block in graph.blocks}
    if name not in blocks:
        free = [block.name for block in graph.blocks if block.why is None]
        known = f"; blocks that can go: {', '.join(free[:5])}" if free else "; this model has none that can go"
        raise InputError(f"{name!r} is not a block that can be bypassed{nearest(name, free) or known}")
    block = blocks[name]
    if block.why is not None:
        raise InputError(f"the block {name!r} must stay: {block.why}")
    return block


def without(graph: F, names: Collection[str]) -> F:
    """Return the Graph of the model with these blocks bypassed. Raises `InputError` for a block that must stay."""
    blocks = {name: block_of(graph, name) for name in names}
    blocks = {block.name: block for block in graph.blocks if block.name in blocks}
    outer = {name: block for name, block in blocks.items() if not any(h in blocks for h in above(name))}
    if not outer:
        return graph
    assert not graph.reduced.removed, "places in `macs` and `path` are those of the whole Graph"
    sites = {name: site for name, site in graph.sites.items() if not inside(name, outer)}
    groups, axes, ghosts = _regrouped(graph, sites)
    return replace(
        graph,
        axes=axes,
        groups=groups,
        sites=sites,
        macs=tuple(_outside(graph.macs, [block.spent for block in outer.values()])),
        readers={name: reader for name, reader in graph.readers.items() if name in sites},
        aliases={a: name for a, name in graph.aliases.items() if name in sites and not inside(a, outer)},
        sizes=graph.sizes.outside(outer),
        effects=graph.effects.outside(outer),
        diagnosis=graph.diagnosis.outside(outer),
        run=replace(graph.run, path=tuple(_outside(graph.run.path, [block.walked for block in outer.values()]))),
        reduced=Reduced({name: block.gives for name, block in outer.items()}, ghosts, graph.totals),
        find_blocks=partial(tuple, [block for block in graph.blocks if not inside(block.name, outer)]),
    )


def _outside(items, ranges):  # type: ignore[no-untyped-def]
    gone = {i for start, stop in ranges for i in range(start, stop)}
    return (item for i, item in enumerate(items) if i not in gone)


def _regrouped(
    graph: Facts, sites: Collection[str]
) -> tuple[tuple[Group, ...], tuple[PrunableAxis, ...], tuple[PrunableAxis, ...]]:
    """Return the groups and axes that remain, and the axes that are gone.

    Groups keep their number of steps, because their ties were derived with all blocks present.
    """
    staying: list[PrunableAxis] = []
    going: list[PrunableAxis] = []
    for axis in graph.axes:
        uses = tuple(use for use in axis.sites if use.name in sites)
        stays = any(graph.sites[use.name].kind == "parameter" for use in uses)
        (staying if stays else going).append(replace(axis, sites=uses) if stays else axis)
    number = {old: new for new, old in enumerate(dict.fromkeys(axis.group for axis in staying))}
    axes = tuple(replace(axis, group=number[axis.group]) for axis in staying)
    groups = tuple(
        replace(graph.groups[old], axes=tuple(axis for axis in axes if axis.group == new))
        for old, new in number.items()
    )
    return groups, axes, tuple(replace(axis, group=number.get(axis.group, -1)) for axis in going)


def counts_by_axis(graph: Facts, counts: Collection[int]) -> dict[Axis, int]:
    """Return counts, given in the order of `graph.axes`, by axis.

    An axis that is only in removed blocks keeps the same share as the axes that it is tied to.
    """
    found = {axis.term: int(n) for axis, n in zip(graph.axes, counts, strict=True)}
    for ghost in graph.reduced.ghosts:
        if ghost.group >= 0:
            tied = graph.groups[ghost.group].axes[0]
            found[ghost.term] = ghost.size * found[tied.term] // tied.size
    return found


def units(names: Collection[str]) -> list[str]:
    """Return the blocks that a depth target counts: the outermost ones that are not a chain of two or more others."""
    children: dict[str, list[str]] = {}
    for name in names:
        holder = next((h for h in above(name) if h in names), "")
        children.setdefault(holder, []).append(name)

    def walk(name: str) -> list[str]:
        within = [unit for child in children.get(name, []) for unit in walk(child)]
        return within if len(within) > 1 or not name else [name]

    return walk("")
