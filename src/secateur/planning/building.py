"""Construction of a Plan from the units that stay."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from secateur.anatomy.building import config_of
from secateur.anatomy.counting import renumbering
from secateur.cost.size_polynomials import Counts
from secateur.graph.blocks import counts_by_axis
from secateur.graph.graph import Graph
from secateur.plan.codes import encoded
from secateur.plan.parts import AttributeChange, AxisPlan, Code, Renorm, Scale
from secateur.plan.plan import Plan
from secateur.terms import Axis, axes, find, size

KEEPING = "drop other blocks, or leave uniform out and save with secateur.save(model, 'small.safetensors')"


def build_plan(graph: Graph, kept: Mapping[str, tuple], counts: Counts, target: tuple[str, ...] = ()) -> Plan:  # type: ignore[type-arg]
    """Return the Plan that keeps these units of each axis."""
    by_axis = counts_by_axis(graph, counts)
    names: dict[Axis, str] = {axis.term: axis.name for axis in graph.axes}
    for axis in graph.axes:
        for outer in axes(axis.outer) if axis.outer is not None else ():
            names.setdefault(outer, f"fixed{outer.serial - min(a.term.serial for a in graph.axes)}")
    closes = graph.run.source.uniform and bool(graph.reduced.removed)

    def name_of(axis: Axis) -> str | int:
        return names.get(axis, axis.n)

    plans = {n: AxisPlan(a.n, None) for a, n in names.items() if a not in by_axis}
    for axis in graph.axes:
        outer = encoded(find(axis.outer), name_of) if axis.outer is not None else None
        plans[axis.name] = AxisPlan(axis.size, kept[axis.name], outer)
    sites = _sites(graph, by_axis, name_of)
    return Plan(
        axes=plans,
        sites=sites,
        attributes=_attributes(graph, by_axis),
        scales=_scales(graph, by_axis),
        renorms=_renorms(graph, by_axis),
        before=graph.totals,
        after=graph.totals_at(counts),
        target=target,
        caches=graph.effects.caches,
        removed=graph.reduced.removed,
        renumbered=renumbering(graph.model, graph.reduced.removed, config_of(graph.model), KEEPING) if closes else None,
        uncut=_uncut(graph, sites),
    )


def _sites(graph: Graph, counts: Mapping[Axis, int], name_of) -> dict[str, tuple[Code, ...]]:  # type: ignore[no-untyped-def]
    """Return every site that holds a prunable axis, with its encoded terms."""
    out = {}
    for name, site in graph.sites.items():
        dims = [find(dim) for dim in site.dims]
        if any(axis in counts for dim in dims for axis in axes(dim)):
            out[name] = tuple(encoded(dim, name_of) for dim in dims)
    return out


def _uncut(graph: Graph, sites: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Return the parameters without a prunable axis, with their shapes."""
    parameters = {name: site.shape for name, site in graph.sites.items() if site.kind == "parameter"}
    return {name: tuple(shape) for name, shape in parameters.items() if name not in sites}


def _attributes(graph: Graph, counts: Mapping[Axis, int]) -> tuple[AttributeChange, ...]:
    changes = []
    for attribute, ratio in graph.sizes.attributes.items():
        old, new = graph.sizes.values.get(attribute), ratio.at(lambda axis: counts.get(axis, axis.n))
        if old is not None and new != old:
            changes.append(AttributeChange(attribute.module, attribute.name, attribute.at, old, new))
    return tuple(changes)


def _renorms(graph: Graph, counts: Mapping[Axis, int]) -> tuple[Renorm, ...]:
    """Return the renormalisations whose slices lose units."""

    def shorter(renorm: Renorm) -> bool:
        dims = (dim for i, dim in enumerate(graph.sites[renorm.of].dims) if i != renorm.dim)
        return any(size(dim, counts) < find(dim).n for dim in dims)

    return tuple(filter(shorter, graph.effects.renorms))


def _scales(graph: Graph, counts: Mapping[Axis, int]) -> tuple[Scale, ...]:
    scales = []
    for fold in graph.effects.folds:
        new = size(fold.term, counts)
        old = find(fold.term).n
        if new != old:
            scales.append(Scale(fold.name, fold.dim, fold.rows, (new / old) ** fold.power))
    return tuple(scales)


__all__ = ["build_plan"]
