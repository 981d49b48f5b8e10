"""Prints the blocks of a Graph: which can be dropped, what that saves, and why the others must stay."""

from __future__ import annotations

from typing import Any

from secateur.base.text import columns, counted, folded, listed, share, times, wrapped
from secateur.graph.facts import Facts
from secateur.graph.parts import Block

FOLD_ABOVE = 8  # up to this many blocks are listed one by one
REASONS = 6


def block_lines(graph: Facts) -> list[str]:
    """Return a table of the parameters and MACs in each block; empty if the model has no blocks."""
    counts = [block for block in graph.blocks if block.counts]
    free = [block for block in counts if block.why is None]
    if not free:
        return []
    head = f"{len(free)} of {counted(len(counts), 'block')} can be dropped whole"
    rows = [(head, "params", "MACs"), *(_row(graph, name, members) for name, members in _folds(free))]
    lines = columns(rows, right=(1, 2))
    others = [block.name for block in graph.blocks if not block.counts and block.why is None]
    if others:
        lines += wrapped("  ", f"also those around or inside them: {listed(others, 4, 'graph.blocks')}")
    staying = [block for block in counts if block.why is not None]
    for block in staying[:REASONS]:
        lines += wrapped("  ", f"{block.name} must stay: {block.why}")
    more = len(staying) - REASONS
    return [*lines, *([f"  ... and {more} more must stay: graph.blocks"] if more > 0 else [])]


def _folds(blocks: list[Block]) -> list[tuple[str, list[Block]]]:
    if len(blocks) <= FOLD_ABOVE:
        return [(block.name, [block]) for block in blocks]
    folds = folded([block.name for block in blocks], [(block.kind, block.params, block.macs) for block in blocks])
    return [(times(name, len(places)), [blocks[place] for place in places]) for name, places in folds]


def _row(graph: Facts, name: str, members: list[Block]) -> tuple[str, str, str]:
    params, macs = sum(block.params for block in members), sum(block.macs for block in members)
    return f"  {name}", share(params / max(graph.params, 1)), share(macs / max(graph.total_macs, 1))


def block_data(block: Block) -> dict[str, Any]:
    """Return a block as plain data."""
    return {
        "name": block.name,
        "kind": block.kind,
        "params": block.params,
        "macs": block.macs,
        "counts": block.counts,
        "why": block.why,
    }
