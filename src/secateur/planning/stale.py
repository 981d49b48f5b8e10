"""Integer attributes of modules that may be out of date after a cut: not read in the trace, equal to a changed size.

A trace follows the integers that `forward` reads. An integer that only another path reads (`self.n_rep`, behind a mask)
keeps its value, and the trace cannot tell whether it describes what was cut. It is reported if both of these hold, so
that attributes that are only stored (`self.inplanes`) are not reported:

1. Some `forward`, or a function that it calls, names the attribute.
2. It equals the size of a dimension of its own module's tensors, or of a factor or part of one, and that size changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

from torch import nn

from secateur.graph.graph import Graph
from secateur.graph.sizes import Attribute
from secateur.terms import Axis, Term, find, size


def stale(graph: Graph, counts: Mapping[Axis, int]) -> list[Attribute]:
    """Return the attributes that may be out of date if axes keep these counts."""
    suspects = [
        attribute
        for attribute in graph.sizes.unread
        if _is_theirs(graph, attribute) and _changes(graph, attribute, counts)
    ]
    named = names_read(graph.model) if suspects else set()
    return [attribute for attribute in suspects if attribute.name.rpartition(".")[2] in named]


def _is_theirs(graph: Graph, attribute: Attribute) -> bool:
    return not type(graph.model.get_submodule(attribute.module)).__module__.startswith("torch.")


def _changes(graph: Graph, attribute: Attribute, counts: Mapping[Axis, int]) -> bool:
    value, within = graph.sizes.values[attribute], f"{attribute.module}." if attribute.module else ""
    sites = (site for name, site in graph.sites.items() if name.startswith(within))
    parts = (part for site in sites for dim in site.dims for part in _parts(dim))
    return any(part.n == value and size(part, counts) != value for part in parts)


def _parts(term: Term) -> Iterator[Term]:
    term = find(term)
    yield term
    if not isinstance(term, Axis):
        for part in term.parts:
            yield from _parts(part)


def names_read(model: nn.Module) -> set[str]:
    """Return every name and string in the code that a `forward` of the model's own classes may reach."""
    kinds = {type(module) for module in model.modules() if not type(module).__module__.startswith("torch.")}
    found: set[str] = set()
    seen: set[CodeType] = set()
    waiting = [(kind, getattr(kind, "forward", None)) for kind in kinds]
    while waiting:
        kind, function = waiting.pop()
        if not isinstance(function, FunctionType) or function.__code__ in seen:
            continue
        seen.add(function.__code__)
        names = set(_names(function.__code__))
        found |= names
        waiting += [(kind, _function(getattr(kind, name, None))) for name in names]
        waiting += [(kind, held) for held in _globals(function, names)]
    return found


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
        elif isinstance(constant, str):
            yield constant


def _function(held: Any) -> Any:
    """Return the function of a method or property."""
    return getattr(held, "fget", None) or getattr(held, "__func__", held)


def _globals(function: FunctionType, names: Collection[str]) -> Iterator[Any]:
    """Yield the functions that names refer to in the file of a function, or in modules that it names."""
    for name in names:
        held = function.__globals__.get(name)
        if isinstance(held, ModuleType) and held.__name__.partition(".")[0] != "torch":
            yield from (vars(held).get(other) for other in names)
        elif isinstance(held, FunctionType) and not held.__module__.startswith("torch."):
            yield held


__all__ = ["names_read", "stale"]
