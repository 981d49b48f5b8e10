"""What a Graph says when asked why."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence

from .errors import InputError, nearest
from .graph import Graph, GraphSite, PrunableAxis, reason_of
from .graph_data import ROLES
from .terms import Axis, Cat, Term, axes, find
from .text import counted, folded, times, wrapped

LISTED = 12  # as many coupled names are listed one by one


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
