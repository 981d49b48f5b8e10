"""Explains a Graph: what the dimensions of parameters are made of, what axes couple, and why dimensions are frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

from secateur.base.names import means
from secateur.base.text import NO_BREAK, counted, folded, times, wrapped
from secateur.errors import InputError, nearest
from secateur.graph.data import ROLES
from secateur.graph.facts import Facts, reason_of, stuck_in
from secateur.graph.parts import GraphSite, Hop, PrunableAxis, SiteUse
from secateur.terms import CHANNEL, Axis, Cat, Term, axes, find

LISTED = 12  # up to this many coupled names are listed one by one
HOPS = 8  # up to this many ops of a chain are listed
CHANGED = "the chains of ops are not shown: the model is no longer the one that was traced; trace it again"


class Explained(Protocol):
    """The result of a second trace: the same Graph, and the ops that caused its marks and ties."""

    graph: Any

    def chain(self, name: str, dim: int, axis: Axis, *, sizes: bool = True) -> list[Hop]: ...
    def between(self, name: str, dim: int, other: tuple[str, int], axis: Axis) -> list[Hop]: ...


@dataclass(frozen=True, slots=True)
class Stay:
    """`size` units of a dimension that are not prunable, the reason, and the ops from its cause to the dimension."""

    size: int
    reason: str
    chain: tuple[Hop, ...]


@dataclass(frozen=True, slots=True)
class DimWhy:
    """A dimension as a formula of the names and sizes of axes, and the reasons why parts of it are not prunable.

    `chain` holds the ops that tie it to the layer after which its axis is named.
    """

    size: int
    formula: str
    chain: tuple[Hop, ...]
    stays: tuple[Stay, ...]


@dataclass(frozen=True, slots=True)
class TensorWhy:
    """A parameter, buffer or tensor attribute."""

    name: str
    kind: str
    dims: tuple[DimWhy, ...]


@dataclass(frozen=True, slots=True)
class AxisWhy:
    """A prunable axis, the axes that keep the same share as it, and the ops that make it inexact."""

    axis: PrunableAxis
    tied_to: tuple[str, ...]
    chain: tuple[Hop, ...]


@dataclass(frozen=True, repr=False)
class Why:
    """The result of `graph.why(pattern)`. `print` shows it, and `as_dict` returns it as plain data."""

    tensors: tuple[TensorWhy, ...]
    axes: tuple[AxisWhy, ...]
    complete: bool  # whether the chains could be looked up

    def as_dict(self) -> dict[str, Any]:
        """Return the explanation as plain data for JSON."""
        return {
            "tensors": [_tensor_data(tensor) for tensor in self.tensors],
            "axes": [_axis_data(axis) for axis in self.axes],
            "complete": self.complete,
        }

    def __str__(self) -> str:
        blocks = [*map(_tensor_lines, self.tensors), *map(_axis_lines, self.axes)]
        if not self.complete:
            blocks.append([CHANGED])
        return "\n\n".join("\n".join(block) for block in blocks)

    __repr__ = __str__


def why(graph: Facts, pattern: str) -> Why:
    """Explain what each dimension of the parameters that match `pattern` is made of, and what each axis there couples.

    `pattern` is the name of an axis, a parameter or a module, or a glob of such names. The model is traced once more,
    to record the ops between a reason and a parameter. Raises `InputError` with similar names if nothing matches.

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
    _check_matches(graph, pattern)
    explanation = graph.explain(graph)
    graph = graph if explanation is None else explanation.graph
    reader = _Reader(graph, explanation)
    sites = _matching(graph, pattern)
    found = {axis for site in sites for dim in site.dims for axis in axes(dim)}
    asked = [a for a in graph.axes if a.term in found or means(pattern, a.name)]
    return Why(tuple(map(reader.tensor, sites)), tuple(map(reader.axis, asked)), explanation is not None)


def _check_matches(graph: Facts, pattern: str) -> None:
    if not isinstance(pattern, str):
        raise InputError(f"pattern={pattern!r}: the name of a parameter, module or axis, or a glob of them")
    if _matching(graph, pattern) or any(means(pattern, axis.name) for axis in graph.axes):
        return
    names = {axis.name for axis in graph.axes}
    known = {name.rpartition(".")[0] for name in graph.sites} | {*graph.sites, *graph.aliases, *names}
    raise InputError(f"{pattern!r} matches no parameter, module or axis{nearest(pattern, known - {''})}")


def _matching(graph: Facts, pattern: str) -> list[GraphSite]:
    """Return the sites that a pattern matches, parameters first."""
    wanted = {graph.aliases.get(pattern, pattern), pattern}
    hit = [site for name, site in graph.sites.items() if site.dims and any(means(p, name) for p in wanted)]
    return sorted(hit, key=lambda site: site.kind != "parameter")


class _Reader:
    """Reads a graph, and an explanation of it if there is one."""

    def __init__(self, graph: Facts, explanation: Explained | None):
        self.graph = graph
        self.explanation = explanation
        self.names = {axis.term: axis.name for axis in graph.axes}

    def tensor(self, site: GraphSite) -> TensorWhy:
        dims = (self._dim(site.name, i, find(dim)) for i, dim in enumerate(site.dims))
        return TensorWhy(site.name, site.kind, tuple(dims))

    def _dim(self, name: str, i: int, dim: Term) -> DimWhy:
        return DimWhy(dim.n, _formula(dim, self._label), self._tied(name, i, dim), tuple(self._stays(name, i, dim)))

    def axis(self, axis: PrunableAxis) -> AxisWhy:
        tied = tuple(other.name for other in self.graph.groups[axis.group].axes if other is not axis)
        use = next((use for use in axis.sites if use.role == "output"), axis.sites[0])
        return AxisWhy(axis, tied, self._chain(use.name, use.dim, axis.term) if axis.inexact else ())

    def _label(self, axis: Axis) -> str:
        return self.names.get(axis, str(axis.n))

    def _tied(self, name: str, dim: int, term: Term) -> tuple[Hop, ...]:
        """Return the ops that couple the output of a layer to the layer after which its axis is named."""
        axis = next((axis for axis in self.graph.axes if axis.term is term), None)
        outputs = _played(axis, "output") if axis is not None else []
        if axis is None or self.explanation is None or SiteUse(name, dim, "output") not in outputs[1:]:
            return ()
        home = outputs[0]
        hops = self.explanation.between(name, dim, (home.name, home.dim), axis.term)
        return tuple(hop for hop in hops if not _within(hop, name) and not _within(hop, home.name))

    def _stays(self, name: str, dim: int, term: Term) -> Iterator[Stay]:
        seen = set()
        stuck = list(stuck_in(term, self.names))
        reasons = {reason_of(axis) for axis in stuck}
        if isinstance(term, Cat) and len(reasons) == 1 and sum(axis.n for axis in stuck) == term.n:
            yield Stay(term.n, reasons.pop(), self._chain(name, dim, stuck[0]))
            return
        for axis in stuck:
            reason = reason_of(axis)
            if (axis.n, reason) not in seen:
                seen.add((axis.n, reason))
                yield Stay(axis.n, reason, self._chain(name, dim, axis))

    def _chain(self, name: str, dim: int, axis: Axis) -> tuple[Hop, ...]:
        """Return the ops between a reason and a parameter; empty if the reason and the layer name them already."""
        hops = self.explanation.chain(name, dim, axis) if self.explanation is not None else []
        reason = reason_of(axis)
        news = [hop for hop in hops if not (hop.at and hop.at in reason and hop.op in reason)]
        alone = len(hops) == 1 and (_within(hops[0], name) or not hops[0].at)
        return () if alone or not news else tuple(hops)


def _within(hop: Hop, name: str) -> bool:
    """Return whether an op is run by the layer that a parameter belongs to."""
    return bool(hop.module) and hop.module == name.rpartition(".")[0]


def _formula(term: Term, name_of: Callable[[Axis], str]) -> str:
    """Return a term as sums and products of names."""
    term = find(term)
    if isinstance(term, Axis):
        return name_of(term)
    if isinstance(term, Cat):
        runs = ((label, len(list(run))) for label, run in groupby(_formula(part, name_of) for part in term.parts))
        return " + ".join(f"{label} (x{n})" if n > 2 else " + ".join([label] * n) for label, n in runs)
    return " x ".join(f"({p})" if " + " in p else p for p in (_formula(part, name_of) for part in term.parts))


def _tensor_lines(tensor: TensorWhy) -> list[str]:
    kind = "" if tensor.kind == "parameter" else f" ({tensor.kind})"
    lines = [f"{tensor.name}{kind}: {' x '.join(str(dim.size) for dim in tensor.dims)}"]
    width = max(len(str(dim.size)) for dim in tensor.dims)
    for i, dim in enumerate(tensor.dims):
        alone = len(dim.stays) == 1 and dim.stays[0].size == dim.size  # then its size is already shown
        lines += wrapped(f"  [{i}] {dim.size:>{width}}  ", "" if alone else _named(dim))
        if dim.chain:
            lines += wrapped(" " * (width + 8), f"by {_way(dim.chain)}")
        for stay in dim.stays:
            text = _frozen(stay.reason) if alone else f"{stay.size} {_frozen(stay.reason)}"
            indent = lines.pop() + "  " if alone else " " * (width + 8)
            lines += wrapped(indent, text)
            if stay.chain:
                lines += wrapped(" " * (width + 8), f"via {_way(stay.chain)}")
    return lines


def _named(dim: DimWhy) -> str:
    return "size one" if dim.size == 1 else dim.formula


def _frozen(reason: str) -> str:
    return f"stays: {reason}" if reason.startswith("at least ") else f"frozen: {reason}"


def _way(chain: Sequence[Hop]) -> str:
    hops = [str(hop).replace(" ", NO_BREAK) for hop in chain]
    if len(hops) > HOPS:
        half = HOPS // 2
        hops = [*hops[:half], f"... {len(hops) - HOPS} more ...".replace(" ", NO_BREAK), *hops[-half:]]
    return " -> ".join(hops)


def _axis_lines(why: AxisWhy) -> list[str]:
    axis = why.axis
    each = f" for each of {axis.outer.n}" if axis.outer is not None else ""
    least = f", at least {axis.least} must stay" if axis.least > 1 else ""
    entries = {role: [f"{use.name}[{use.dim}]" for use in _played(axis, role)] for role in ROLES}
    entries["tied to"] = list(why.tied_to)
    bodies = {head: ", ".join(_brief(names)) for head, names in entries.items() if names}
    bodies |= {"because": axis.inexact} if axis.inexact else {}
    bodies |= {"via": _way(why.chain)} if why.chain else {}
    width = max(map(len, bodies), default=0)
    kind = "inexact" if axis.inexact else "exact"
    units = counted(axis.size, "unit" if axis.kind == CHANNEL else axis.kind)
    lines = [f"axis {axis.name}: {units}{each}{least}, {kind}"]
    for head, body in bodies.items():
        lines += wrapped(f"  {head:<{width}}  ", body)
    return lines


def _played(axis: PrunableAxis, role: str) -> list[SiteUse]:
    return [use for use in axis.sites if use.role == role]


def _brief(names: Sequence[str]) -> list[str]:
    """Return the names; those of equal blocks are folded into globs if there are many."""
    if len(names) <= LISTED:
        return list(names)
    return [times(name, len(places)) for name, places in folded(names, [0] * len(names))]


def _tensor_data(tensor: TensorWhy) -> dict[str, Any]:
    dims = [
        {
            "size": dim.size,
            "formula": dim.formula,
            "chain": _chain_data(dim.chain),
            "stays": [{"size": s.size, "reason": s.reason, "chain": _chain_data(s.chain)} for s in dim.stays],
        }
        for dim in tensor.dims
    ]
    return {"name": tensor.name, "kind": tensor.kind, "dims": dims}


def _axis_data(why: AxisWhy) -> dict[str, Any]:
    axis = why.axis
    return {
        "name": axis.name,
        "size": axis.size,
        "each_of": axis.outer.n if axis.outer is not None else None,
        "least": axis.least,
        "inexact": axis.inexact,
        "tied_to": list(why.tied_to),
        "chain": _chain_data(why.chain),
        "couples": [{"name": use.name, "dim": use.dim, "role": use.role} for use in axis.sites],
    }


def _chain_data(chain: Sequence[Hop]) -> list[dict[str, str]]:
    return [{"op": hop.op, "at": hop.at, "module": hop.module} for hop in chain]
