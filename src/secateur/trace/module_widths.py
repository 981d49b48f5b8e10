"""Integer attributes that are named after the channels that a module takes or returns, and that no call reads.

A layer such as torch_geometric's `GCNConv` stores `in_channels` and `out_channels`, which only its constructor and its
printing use. They follow the tensors that the module takes and returns, if each call shows the same one dimension of
that size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from secateur.base.nested import tensors_in
from secateur.graph.algebra import Opaque
from secateur.graph.sizes import Attribute, Dim
from secateur.terms import Term, alike, axes, find
from secateur.trace.solve import Solver
from secateur.trace.staging import StandIns
from secateur.trace.typed import get

TAKEN = frozenset("in_channels in_features in_dim in_size in_chs input_dim input_size dim_in".split())
GIVEN = frozenset("out_channels out_features out_dim out_size out_chs output_dim output_size dim_out".split())


class Widths(NamedTuple):
    """The terms of the first tensor that a module took in one call, and of the first that it returned."""

    taken: tuple[Term, ...]
    given: tuple[Term, ...]


def widths(module: nn.Module, arguments: Any, out: Any) -> Widths | None:
    """Return the widths of one call, if the module has an attribute that is named after them."""
    if TAKEN.isdisjoint(vars(module)) and GIVEN.isdisjoint(vars(module)):
        return None
    return Widths(_first(arguments), _first(out))


def _first(value: Any) -> tuple[Term, ...]:
    typed = next(map(get, tensors_in(value)), None)
    return tuple(typed.dims) if typed is not None else ()


def follow_widths(model: nn.Module, stage: StandIns, solver: Solver, seen: Mapping[int, Sequence[Widths]]) -> None:
    """Define the unread attributes that the calls of their modules explain, and strike them off the unread ones."""
    modules, known = dict(model.named_modules()), {fact.thing for fact in stage.facts}
    left = []
    for attribute in stage.unread:
        calls = seen.get(id(modules.get(attribute.module)), ()) if attribute not in known else ()
        term = _explained(attribute, stage.attributes[attribute], calls)
        try:
            if term is not None:
                solver.solution.attributes[attribute] = solver.ratio(Dim(term))
                continue
        except Opaque:
            pass
        left.append(attribute)
    stage.unread = left


def _explained(attribute: Attribute, value: int, calls: Sequence[Widths]) -> Term | None:
    """Return the one dimension with free units that an attribute describes in every call, or None."""
    side = 0 if attribute.name in TAKEN else 1 if attribute.name in GIVEN else None
    if side is None or attribute.at is not None:
        return None
    found = [list(_free(call[side], value)) for call in calls]
    if not found or any(len(terms) != 1 for terms in found):
        return None
    term = found[0][0]
    return term if all(alike(term, terms[0]) for terms in found) else None


def _free(dims: Sequence[Term], size: int) -> Iterator[Term]:
    """Yield the dimensions of this size that have a unit which may go."""
    for dim in map(find, dims):
        if dim.n == size and any(axis.frozen is None for axis in axes(dim)):
            yield dim


__all__ = ["Widths", "follow_widths", "widths"]
