"""Prints a Graph: the axes, the blocks, and what is not prunable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secateur.base.text import NO_BREAK, counted, folded, paged, share, span, times, wrapped
from secateur.graph.block_text import block_lines
from secateur.graph.data import ROLES, Shares
from secateur.graph.facts import Facts
from secateur.graph.frozen_text import frozen_summary, placeless
from secateur.graph.parts import PrunableAxis
from secateur.terms import CHANNEL

HEAD = ("units", "of", "sites", "out", "in", "norm", "params", "MACs", "tie", "kind")
ROWS = 40  # of a table
FOLD_ABOVE = 24  # up to this many axes are listed one by one


def table(graph: Facts) -> str:
    """Return the printed Graph: its axes, what is frozen and why, and the ops without a rule.

    >>> import secateur, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    >>> print(table(secateur.trace(net, torch.zeros(1, 4))))
    Sequential: 58 parameters, 48 MACs
    coverage: 96.6 % of the parameters and 100 % of the MACs lie on a prunable axis
    <BLANKLINE>
    1 prunable axis  units  sites  out  in  params   MACs  kind
      0                  8      3    2   1  96.6 %  100 %  exact
    <BLANKLINE>
    always frozen: 1 model input, 2 model outputs
    graph.why('0') shows what an axis couples, and why a dimension is frozen
    """
    tables = ("\n".join(lines) for lines in (_axis_table(graph), block_lines(graph)))
    blocks = [coverage_lines(graph), *tables, frozen_summary(graph)]
    text = "\n\n".join(filter(None, blocks))
    example = graph.axes[0].name if graph.axes else next(iter(graph.sites), "*")
    return f"{text}\ngraph.why({example!r}) shows what an axis couples, and why a dimension is frozen"


def coverage_lines(graph: Facts) -> str:
    """Return the size of a model, and the shares of it that lie on a prunable axis, as text."""
    cover = graph.coverage
    return (
        f"{type(graph.model).__name__}: {counted(graph.params, 'parameter')}, {counted(graph.total_macs, 'MAC')}\n"
        f"coverage: {share(cover.params)} of the parameters and {share(cover.macs)} of the MACs lie on a prunable axis"
    )


@dataclass(frozen=True)
class _Row:
    """The row of an axis without its name and shares; axes with equal rows may be folded into one line."""

    units: str
    of: str
    roles: tuple[int, ...]
    tie: str
    kind: str


def _axis_table(graph: Facts) -> list[str]:
    if not graph.axes:
        return ["no prunable axis"]
    notes = _Notes()
    ties = _tie_marks(graph)
    rows = [_Row(_units(a), _of(a), _roles(a), ties.get(a.group, ""), notes.kind(a)) for a in graph.axes]
    folds = _folds(graph, rows)
    shares = Shares(graph)
    lines = [[counted(len(graph.axes), "prunable axis", "prunable axes"), *HEAD]]
    for name, places in folds[:ROWS]:
        members, like = [graph.axes[place] for place in places], [rows[place] for place in places]
        lines.append([f"  {times(name, len(places))}", *_cells(members, like, shares)])
    more = sum(len(places) for _, places in folds[ROWS:])
    fitted = _fitted(lines)
    legend = _legend(graph, notes, any(len(places) > 1 for _, places in folds))
    if any(not line.startswith(label[0].partition(NO_BREAK)[0]) for line, label in zip(fitted, lines, strict=True)):
        legend.append("  a.b.c     long names are cut to initials; graph.axes and graph.why('*') have them whole")
    return [*fitted, *([f"  ... and {more:,} more: graph.why('*')"] if more else []), *legend]


def _folds(graph: Facts, rows: Sequence[_Row]) -> list[tuple[str, list[int]]]:
    """Return the rows of the table: one per axis if they are few; otherwise equal, then similar axes are folded."""
    names = [axis.name for axis in graph.axes]
    if len(names) <= FOLD_ABOVE:
        return [(name, [place]) for place, name in enumerate(names)]
    equal = folded(names, rows)
    return equal if len(equal) <= ROWS else folded(names, [(row.units, row.of, row.tie, row.kind) for row in rows])


def _cells(members: Sequence[PrunableAxis], rows: Sequence[_Row], shares: Shares) -> list[str]:
    sites = span(len(axis.sites) for axis in members)
    out, into, *norm = zip(*(row.roles for row in rows), strict=True)
    roles = [span(played) if any(played) else "" for played in (out, into)]
    roles.append("/".join(map(span, norm)) if any(map(any, norm)) else "")
    params, macs = sum(map(shares.params, members)), sum(map(shares.macs, members))
    return [rows[0].units, rows[0].of, sites, *roles, share(params), share(macs), rows[0].tie, rows[0].kind]


def _fitted(lines: list[list[str]]) -> list[str]:
    """Return the table without columns that are empty in every row."""
    kept = [i for i in range(len(lines[0])) if any(line[i] for line in lines[1:])]
    numbers = [place for place, i in enumerate(kept) if 1 <= i <= HEAD.index("MACs") + 1]
    return paged([[line[i] for i in kept] for line in lines], numbers)


def _units(axis: PrunableAxis) -> str:
    return str(axis.size) if axis.outer is None else f"{axis.outer.n}x{axis.size}"


def _of(axis: PrunableAxis) -> str:
    """Return the kind of the units, if they are not channels."""
    return "" if axis.kind == CHANNEL else f"{axis.kind}s"


def _roles(axis: PrunableAxis) -> tuple[int, ...]:
    played = [use.role for use in axis.sites]
    return tuple(map(played.count, ROLES))


def _tie_marks(graph: Facts) -> dict[int, str]:
    """Return a letter for each group of more than one axis."""
    tied = [number for number, group in enumerate(graph.groups) if len(group.axes) > 1]
    return {number: _letters(place) for place, number in enumerate(tied)}


def _letters(number: int) -> str:
    """Return the letters of a number: A, B, ..., Z, AA, AB, ..."""
    head, last = divmod(number, 26)
    return (_letters(head - 1) if head else "") + chr(ord("A") + last)


class _Notes:
    """The reasons of inexact axes, numbered in order of appearance."""

    def __init__(self) -> None:
        self.reasons: dict[str, int] = {}

    def kind(self, axis: PrunableAxis) -> str:
        if axis.inexact is None:
            return "exact"
        return f"({self.reasons.setdefault(placeless(axis.inexact), len(self.reasons) + 1)})"


def _legend(graph: Facts, notes: _Notes, some_folded: bool) -> list[str]:
    lines = []
    if any(use.role in ROLES[2:] for axis in graph.axes for use in axis.sites):
        lines.append(
            "  norm      places in scales / shifts / statistics; out, in: in weights that make or read the units"
        )
    if some_folded:
        lines.append("  * (xN)    N axes whose names differ in one number; the shares are of all of them together")
    if any(axis.outer is not None for axis in graph.axes):
        lines.append("  MxN       N units for each of M, which choose for themselves, all equally many")
    if any(axis.kind != CHANNEL for axis in graph.axes):
        lines.append(
            "  of        what the units are, if not channels: heads of attention, dimensions inside a head, ..."
        )
    if any(len(group.axes) > 1 for group in graph.groups):
        lines.append("  tie       axes with the same letter keep the same share of their units")
    for reason, number in notes.reasons.items():
        lines += wrapped(
            f"  ({number})       ", f"inexact: {reason}; dropping a unit also changes what the others give"
        )
    return lines
