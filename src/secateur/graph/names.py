"""Finds the axis that a name in a Graph refers to.

The first match counts:

1. the name of an axis, or of the module or parameter whose output it is;
2. a dimension of a tensor, as `graph.why` shows it (`out.weight[1]`);
3. a tensor or a module that holds this axis only, and scales, shifts or normalizes along it (a free parameter, a norm).

The input of a layer can be named only by its dimension: `out` and `out.weight` refer to the output of `out`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from secateur.base.names import inside
from secateur.errors import InputError, nearest
from secateur.graph.facts import Facts
from secateur.graph.parts import Frozen, PrunableAxis
from secateur.terms import Term, axes, find

_PLACE = re.compile(r"(.+)\[(\d+)\]$")


def axis_named(graph: Facts, name: str) -> PrunableAxis:
    """Return the axis that a name refers to. Raises `InputError`, which lists the alternatives."""
    found = graph.by_name.get(name)
    several = [axis for axis in graph.axes if axis.name.startswith(f"{name}[") and axis is not found]
    if several and (found is None or found.name != name):
        known = ", ".join(f"{axis.name} ({axis.size} {axis.kind}s)" for axis in graph.axes if axis in (found, *several))
        raise InputError(f"{name!r} has several axes, so name one of them: {known}")
    found = found or _by_place(graph, name) or _held_in(graph, name)
    if found is None:
        raise _unknown(graph, name)
    return found


def _by_place(graph: Facts, name: str) -> PrunableAxis | None:
    """Return the axis that makes up one dimension of a tensor."""
    at = _PLACE.match(name)
    site = graph.sites.get(graph.aliases.get(at[1], at[1])) if at is not None else None
    if at is None or site is None or int(at[2]) >= len(site.dims):
        return None
    term = find(site.dims[int(at[2])])
    lying = _lying(graph, term)
    if len(lying) == 1 and lying[0].term is term:
        return lying[0]
    if lying:
        known = ", ".join(repr(axis.name) for axis in lying)
        raise InputError(f"{name!r} holds more than the units of one axis; name the axis: {known}")
    return None


def _lying(graph: Facts, term: Term) -> list[PrunableAxis]:
    held = set(axes(term))
    return [axis for axis in graph.axes if axis.term in held]


def _held_in(graph: Facts, name: str) -> PrunableAxis | None:
    """Return the only axis that fills a dimension of a tensor, or of a module's tensors, except inputs of layers."""
    wanted = graph.aliases.get(name, name)
    held = {wanted} if wanted in graph.sites else {n for n in graph.sites if n.rpartition(".")[0] == name}
    uses = [(axis, use) for axis in graph.axes for use in axis.sites if use.name in held]
    whole = all(find(graph.sites[use.name].dims[use.dim]) is axis.term for axis, use in uses)
    found = list({axis.name: axis for axis, use in uses if use.role != "input"}.values())
    return found[0] if len(found) == 1 and whole and not _own_output_stays(graph, held) else None


def _own_output_stays(graph: Facts, held: Iterable[str]) -> bool:
    """Return whether the output of a layer is frozen; its name then does not refer to its input either."""
    return any(f.name in held and f.dim == 0 and len(graph.sites[f.name].dims) > 1 for f in graph.frozen)


def _unknown(graph: Facts, name: str) -> InputError:
    gone = next((block for block in graph.reduced.removed if inside(name, {block})), None)
    if gone is not None:
        return InputError(f"{name!r} is in the block {gone!r}, which is dropped")
    at = _PLACE.match(name)
    tensor, dim = (at[1], int(at[2])) if at is not None else (name, None)
    frozen = _frozen_at(graph, tensor, dim)
    facts = [f"{frozen.name}[{frozen.dim}] is frozen: {frozen.reason}"] if frozen is not None else []
    wanted = {tensor, f"{tensor}.weight", graph.aliases.get(tensor, tensor)}
    uses = [(use, axis.name) for axis in graph.axes for use in axis.sites if use.name in wanted and dim is None]
    facts += [f"{use.name}[{use.dim}] belongs to the axis {axis!r}" for use, axis in uses]
    near = (nearest(name, graph.by_name) or nearest(name, graph.sites)) if not facts else ""
    return InputError("\n".join([f"no prunable axis is named {name!r}{near}", *facts]))


def _frozen_at(graph: Facts, name: str, dim: int | None) -> Frozen | None:
    wanted = (name, f"{name}.weight", graph.aliases.get(name, name))
    return next((f for f in graph.frozen if f.dim == (dim or 0) and f.name in wanted), None)


__all__ = ["axis_named"]
