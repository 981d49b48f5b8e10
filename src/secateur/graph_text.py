"""How a Graph prints, and what it says when asked why."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .errors import InputError, nearest
from .graph import Frozen, Graph, GraphSite, PrunableAxis, covered, reason_of
from .terms import Axis, Cat, Term, axes, find
from .text import NO_BREAK, counted, folded, listed, paged, share, span, times, wrapped

HEAD = ("units", "sites", "out", "in", "norm", "params", "MACs", "tie", "kind")
ROLES = ("output", "input", "scale", "shift", "statistic")
ORDINARY = {  # reasons that are no news: what a line calls them, one and many
    "kernel size": ("kernel size", "kernel sizes"),
    "spatial": ("spatial size", "spatial sizes"),
    "model input": ("model input", "model inputs"),
    "model output": ("model output", "model outputs"),
}
ROWS = 40  # of a table
FOLD_ABOVE = 24  # as many axes are listed one by one
REASONS = 12
LISTED = 12  # as many coupled names are listed one by one
TRAINING_FAILED = "a call in training mode failed"


# --- the table ------------------------------------------------------------------------------------------------------


def table(graph: Graph) -> str:
    """The axes, what is frozen and why, and what the trace did not understand.

    >>> import secateur, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    >>> print(table(secateur.trace(net, torch.zeros(1, 4))))
    Sequential: 58 parameters, 48 MACs
    coverage: 96.6 % of the parameters and 100 % of the MACs lie on a prunable axis
    <BLANKLINE>
    1 prunable axis  units  sites  out  in  params   MACs  kind
      0                  8      3    2   1  96.6 %  100 %  exact
    <BLANKLINE>
    frozen, as always: 1 model input, 2 model outputs
    graph.why('0') tells what an axis couples, and why a dimension is frozen
    """
    blocks = [_head(graph), "\n".join(_axis_table(graph)), frozen_summary(graph)]
    text = "\n\n".join(filter(None, blocks))
    example = graph.axes[0].name if graph.axes else next(iter(graph.sites), "*")
    return f"{text}\ngraph.why({example!r}) tells what an axis couples, and why a dimension is frozen"


def _head(graph: Graph) -> str:
    cover = graph.coverage
    return (
        f"{type(graph.model).__name__}: {counted(graph.params, 'parameter')}, {counted(graph.total_macs, 'MAC')}\n"
        f"coverage: {share(cover.params)} of the parameters and {share(cover.macs)} of the MACs lie on a prunable axis"
    )


@dataclass(frozen=True)
class _Shares:
    """What share of the parameters and MACs lies on each axis."""

    graph: Graph
    _macs: dict[Axis, int] = field(default_factory=dict)

    def params(self, axis: PrunableAxis) -> float:
        names = dict.fromkeys(use.name for use in axis.sites)
        sites = [self.graph.sites[name] for name in names]
        held = sum(math.prod(s.shape) * covered(s.dims, {axis.term}) for s in sites if s.kind == "parameter")
        return held / max(self.graph.params, 1)

    def macs(self, axis: PrunableAxis) -> float:
        return self._macs_by_axis.get(axis.term, 0.0) / max(self.graph.total_macs, 1)

    @cached_property
    def _macs_by_axis(self) -> dict[Axis, float]:
        live = {axis.term for axis in self.graph.axes}
        total: dict[Axis, float] = {}
        for macs in self.graph.macs:
            spent = macs.coefficient * math.prod(term.n for term in macs.terms)
            for axis in {axis for term in macs.terms for axis in axes(term)} & live:
                total[axis] = total.get(axis, 0.0) + spent * covered(macs.terms, {axis})
        return total


@dataclass(frozen=True)
class _Row:
    """What the table says of an axis, but for its name and shares: axes with equal rows may be folded."""

    units: str
    roles: tuple[int, ...]
    tie: str
    kind: str


def _axis_table(graph: Graph) -> list[str]:
    if not graph.axes:
        return ["no prunable axis"]
    notes = _Notes()
    ties = _tie_marks(graph)
    rows = [_Row(_units(a), _roles(a), ties.get(a.group, ""), notes.kind(a)) for a in graph.axes]
    folds = _folds(graph, rows)
    shares = _Shares(graph)
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


def _folds(graph: Graph, rows: Sequence[_Row]) -> list[tuple[str, list[int]]]:
    """The lines of the table: one an axis if they are few, else equal ones folded, else those that are nearly equal."""
    names = [axis.name for axis in graph.axes]
    if len(names) <= FOLD_ABOVE:
        return [(name, [place]) for place, name in enumerate(names)]
    equal = folded(names, rows)
    return equal if len(equal) <= ROWS else folded(names, [(row.units, row.tie, row.kind) for row in rows])


def _cells(members: Sequence[PrunableAxis], rows: Sequence[_Row], shares: _Shares) -> list[str]:
    sites = span(len(axis.sites) for axis in members)
    out, into, *norm = zip(*(row.roles for row in rows), strict=True)
    roles = [span(played) if any(played) else "" for played in (out, into)]
    roles.append("/".join(map(span, norm)) if any(map(any, norm)) else "")
    params, macs = sum(map(shares.params, members)), sum(map(shares.macs, members))
    return [rows[0].units, sites, *roles, share(params), share(macs), rows[0].tie, rows[0].kind]


def _fitted(lines: list[list[str]]) -> list[str]:
    """Without columns in which no row says anything."""
    kept = [i for i in range(len(lines[0])) if any(line[i] for line in lines[1:])]
    numbers = [place for place, i in enumerate(kept) if 1 <= i <= HEAD.index("MACs") + 1]
    return paged([[line[i] for i in kept] for line in lines], numbers)


def _units(axis: PrunableAxis) -> str:
    return str(axis.size) if axis.outer is None else f"{axis.outer.n}x{axis.size}"


def _roles(axis: PrunableAxis) -> tuple[int, ...]:
    played = [use.role for use in axis.sites]
    return tuple(map(played.count, ROLES))


def _tie_marks(graph: Graph) -> dict[int, str]:
    """A letter for each group of more than one axis."""
    tied = [number for number, group in enumerate(graph.groups) if len(group.axes) > 1]
    return {number: _letters(place) for place, number in enumerate(tied)}


def _letters(number: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    head, last = divmod(number, 26)
    return (_letters(head - 1) if head else "") + chr(ord("A") + last)


class _Notes:
    """Reasons of inexact axes, numbered as they come."""

    def __init__(self) -> None:
        self.reasons: dict[str, int] = {}

    def kind(self, axis: PrunableAxis) -> str:
        if axis.inexact is None:
            return "exact"
        return f"({self.reasons.setdefault(_placeless(axis.inexact), len(self.reasons) + 1)})"


def _legend(graph: Graph, notes: _Notes, some_folded: bool) -> list[str]:
    lines = []
    if any(use.role in ROLES[2:] for axis in graph.axes for use in axis.sites):
        lines.append(
            "  norm      places in scales / shifts / statistics; out, in: in weights that make or read the units"
        )
    if some_folded:
        lines.append("  * (xN)    N axes whose names differ in one number; the shares are of all of them together")
    if any(axis.outer is not None for axis in graph.axes):
        lines.append("  MxN       N units for each of M, which choose for themselves, all equally many")
    if any(len(group.axes) > 1 for group in graph.groups):
        lines.append("  tie       axes with the same letter keep the same share of their units")
    for reason, number in notes.reasons.items():
        lines += wrapped(
            f"  ({number})       ", f"inexact: {reason}; dropping a unit also changes what the others give"
        )
    return lines


# --- what is not prunable -------------------------------------------------------------------------------------------


def _placeless(reason: str) -> str:
    """A reason without the module that it was met in, so that equal ones of several blocks count as one."""
    return re.sub(r" in [^\s(),]+(?=\)?$)", "", reason)


def _frozen_block(graph: Graph) -> list[str]:
    groups: dict[str, list[Frozen]] = {}
    for frozen in graph.frozen:
        groups.setdefault(_placeless(frozen.reason), []).append(frozen)
    ordinary = {reason: groups.pop(reason) for reason in ORDINARY if reason in groups}
    ranked = sorted(((_weight(graph, found), reason, found) for reason, found in groups.items()), key=lambda g: -g[0])
    lines = ["frozen, with the share of the parameters that have such a dimension"] if ranked else []
    for weight, reason, found in ranked[:REASONS]:
        lines += _frozen_lines(share(weight / max(graph.params, 1)), reason, found)
    if len(ranked) > REASONS:
        lines.append(f"  ... and {counted(len(ranked) - REASONS, 'more reason')}: graph.why('*')")
    if ordinary:
        counts = [counted(len(found), *ORDINARY[reason]) for reason, found in ordinary.items()]
        lines += wrapped("", "frozen, as always: " + ", ".join(counts))
    return lines


def _weight(graph: Graph, found: Iterable[Frozen]) -> int:
    return sum(math.prod(graph.sites[name].shape) for name in {f.name for f in found})


def _frozen_lines(part: str, reason: str, found: Sequence[Frozen]) -> list[str]:
    names = listed([f"{f.name}[{f.dim}]" for f in found], 1, f"graph.why({found[0].name!r})")
    lines = wrapped(f"  {part:>7}  ", f"{counted(len(found), 'dimension')}: {reason}")
    return [*lines, *wrapped(" " * 11, names)]


def _unreached_block(graph: Graph) -> list[str]:
    if not graph.unreached:
        return []
    count = sum(math.prod(graph.sites[name].shape) for name in graph.unreached)
    head = f"no call reached {counted(len(graph.unreached), 'parameter tensor')}, {share(count / graph.params)} of the "
    advice = "they stay as they are; a call that uses them goes in trace(..., calls=[...])"
    return [*wrapped("", f"{head}parameters: {listed(graph.unreached, 4)}"), advice]


def _unknown_block(graph: Graph) -> list[str]:
    ops = {name: n for name, n in graph.unknown.items() if name != TRAINING_FAILED}
    lines = (
        [TRAINING_FAILED + ": what only training reaches stays as it is"] if TRAINING_FAILED in graph.unknown else []
    )
    if not ops:
        return lines
    named = listed([f"{name} (x{n})" for name, n in ops.items()], 12)
    first = next(iter(ops))
    return [
        *lines,
        *wrapped("no rule for ", f"{named}; what they touched is frozen. These lines teach one:"),
        f'  @secateur.trace.registry.rule("{first}")',
        f"  def {first.rpartition('::')[2]}(op):  # x: [n, c, *] -> [n, c, *]",
        '      op.result(op.dims(op["self"]))',
    ]


def frozen_summary(graph: Graph) -> str:
    """What is frozen and why, what no call reached, and ops without a rule: the table without the axes."""
    blocks = (_frozen_block(graph), _unreached_block(graph), _unknown_block(graph))
    return "\n\n".join("\n".join(block) for block in blocks if block)


# --- why ------------------------------------------------------------------------------------------------------------


def why(graph: Graph, pattern: str) -> str:
    """What each dimension of the parameters that `pattern` means is made of, and what each axis there couples.

    pattern: an axis, a parameter, a module, or a glob of them. Raises `InputError` with the nearest names where
    nothing matches.

    >>> import secateur, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    >>> print(why(secateur.trace(net, torch.zeros(1, 4)), "0.weight"))
    0.weight: 8 x 4
      [0] 8  0
      [1] 4  frozen: model input
    <BLANKLINE>
    axis 0: 8 units, exact
      output  0.weight[0], 0.bias[0]
      input   1.weight[1]
    """
    names = {axis.term: axis.name for axis in graph.axes}
    sites = _matching(graph, pattern)
    found: dict[Axis, None] = {a.term: None for a in graph.axes if _means(pattern, a.name)}
    for site in sites:
        found.update((axis, None) for dim in site.dims for axis in axes(dim) if axis in names)
    if not sites and not found:
        known = {name.rpartition(".")[0] for name in graph.sites} | {*graph.sites, *graph.aliases, *names.values()}
        raise InputError(f"{pattern!r} matches no parameter, module or axis{nearest(pattern, known - {''})}")
    blocks = [_site_block(site, names) for site in sites]
    blocks += [_axis_block(graph, axis) for axis in graph.axes if axis.term in found]
    return "\n\n".join("\n".join(block) for block in blocks)


def _matching(graph: Graph, pattern: str) -> list[GraphSite]:
    """Sites with a dimension that a pattern means, parameters first."""
    wanted = {graph.aliases.get(pattern, pattern), pattern}
    hit = [site for name, site in graph.sites.items() if site.dims and any(_means(p, name) for p in wanted)]
    return sorted(hit, key=lambda site: site.kind != "parameter")


def _means(pattern: str, name: str) -> bool:
    """A pattern means a name, or every name inside the module it names. The [0] of an axis is no set of letters."""
    literal = pattern.replace("[", "[[]")
    parts = name.split(".")
    heads = [".".join(parts[:i]) for i in range(1, len(parts) + 1)]
    return any(fnmatch.fnmatchcase(head, p) for head in heads for p in (pattern, literal))


def _site_block(site: GraphSite, names: dict[Axis, str]) -> list[str]:
    kind = "" if site.kind == "parameter" else f" ({site.kind})"
    lines = [f"{site.name}{kind}: {' x '.join(map(str, site.shape))}"]
    width = max(len(str(n)) for n in site.shape)
    for i, dim in enumerate(site.dims):
        first, *more = _dim_lines(dim, names)
        lines += wrapped(f"  [{i}] {dim.n:>{width}}  ", first)
        for line in more:
            lines += wrapped(" " * (width + 8), line)
    return lines


def _dim_lines(dim: Term, names: dict[Axis, str]) -> list[str]:
    """The term of a dimension, then why parts of it stay."""
    dim = find(dim)
    if isinstance(dim, Axis):
        return [names[dim] if dim in names else _stays(dim)]
    staying = [axis for axis in axes(dim) if axis not in names and axis.n > 1]
    reasons = dict.fromkeys(f"{axis.n} {_stays(axis)}" for axis in staying)
    return [_formula(dim, lambda axis: names.get(axis, str(axis.n))), *reasons]


def _stays(axis: Axis) -> str:
    if axis.n == 1:
        return "size one"
    return f"frozen: {axis.frozen}" if axis.frozen else f"stays: {reason_of(axis)}"


def _formula(term: Term, name_of: Callable[[Axis], str]) -> str:
    """A term as sums and products of names."""
    term = find(term)
    if isinstance(term, Axis):
        return name_of(term)
    if isinstance(term, Cat):
        return " + ".join(_formula(part, name_of) for part in term.parts)
    return " x ".join(f"({p})" if " + " in p else p for p in (_formula(part, name_of) for part in term.parts))


def _axis_block(graph: Graph, axis: PrunableAxis) -> list[str]:
    each = f" for each of {axis.outer.n}" if axis.outer is not None else ""
    least = f", at least {axis.least} must stay" if axis.least > 1 else ""
    kind = "inexact" if axis.inexact else "exact"
    entries = {role: [f"{u.name}[{u.dim}]" for u in axis.sites if u.role == role] for role in ROLES}
    entries["tied to"] = [other.name for other in graph.groups[axis.group].axes if other is not axis]
    bodies = {head: ", ".join(_brief(names)) for head, names in entries.items() if names}
    bodies |= {"because": axis.inexact} if axis.inexact else {}
    width = max(map(len, bodies), default=0)
    lines = [f"axis {axis.name}: {counted(axis.size, 'unit')}{each}{least}, {kind}"]
    for head, body in bodies.items():
        lines += wrapped(f"  {head:<{width}}  ", body)
    return lines


def _brief(names: Sequence[str]) -> list[str]:
    """Names, those of equal blocks folded where they are many."""
    if len(names) <= LISTED:
        return list(names)
    return [times(name, len(places)) for name, places in folded(names, [0] * len(names))]


# --- data -----------------------------------------------------------------------------------------------------------


def as_dict(graph: Graph) -> dict[str, Any]:
    """Plain data for JSON: everything that `print(graph)` tells, unabridged.

    >>> import secateur, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    >>> data = as_dict(secateur.trace(net, torch.zeros(1, 4)))
    >>> data["params"], [axis["name"] for axis in data["axes"]], data["frozen"][0]["reason"]
    (58, ['0'], 'model input')
    """
    shares = _Shares(graph)
    return {
        "model": type(graph.model).__name__,
        "params": graph.params,
        "macs": graph.total_macs,
        "coverage": {"params": graph.coverage.params, "macs": graph.coverage.macs},
        "axes": [_axis_data(graph, axis, shares) for axis in graph.axes],
        "frozen": [{"name": f.name, "dim": f.dim, "reason": f.reason} for f in graph.frozen],
        "unreached": list(graph.unreached),
        "unknown": dict(graph.unknown),
        "aliases": dict(graph.aliases),
    }


def _axis_data(graph: Graph, axis: PrunableAxis, shares: _Shares) -> dict[str, Any]:
    return {
        "name": axis.name,
        "size": axis.size,
        "each_of": axis.outer.n if axis.outer is not None else None,
        "least": axis.least,
        "inexact": axis.inexact,
        "tied_to": [other.name for other in graph.groups[axis.group].axes if other is not axis],
        "params": shares.params(axis),
        "macs": shares.macs(axis),
        "sites": [{"name": use.name, "dim": use.dim, "role": use.role} for use in axis.sites],
    }


__all__ = ["as_dict", "frozen_summary", "table", "why"]
