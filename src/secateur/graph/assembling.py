"""What a front-end says about a model becomes a Graph: axes are found in the sites, named and grouped.

The trace and `build_graph`, which takes a description that was written without a trace, share these steps.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor, nn

from secateur.base.names import plain_of
from secateur.cost.parts import MacsTerm, Storage
from secateur.errors import InputError, nearest
from secateur.graph.algebra import Poly, Ratio
from secateur.graph.consumers import Consumer
from secateur.graph.facts import reason_of, stuck_in
from secateur.graph.graph import Graph
from secateur.graph.parts import ALONE, Frozen, GraphSite, Group, PrunableAxis, SiteUse
from secateur.graph.sections import Diagnosis, Sizes
from secateur.graph.sizes import Attribute
from secateur.terms import EXPERT, Axis, Term, axes, find, freeze, merged, settle, sized

UNDESCRIBED = "the front-end does not describe it"


def build_graph(
    model: nn.Module,
    dims: Mapping[str, Sequence[Term]],
    *,
    roles: Mapping[tuple[str, int], str] | None = None,
    macs: Iterable[MacsTerm] = (),
    attributes: Mapping[Attribute, Axis] | None = None,
    readers: Iterable[Consumer] = (),
    storages: Iterable[Storage] = (),
) -> Graph:
    """Return the Graph of a model from a description of its tensors, without running the model.

    Dimensions that hold the same `Axis` lose the same units. An axis is prunable unless it has a reason to stay, as in
    `Axis(4, "model input")`; each is planned by itself. Nothing can check the description against what the model
    computes, so check the pruned model with `secateur.verify`.

    Args:
        model: the model.
        dims: the term of each dimension, by the name of a parameter or buffer. What is left out stays as it is.
        roles: what an axis is in a dimension (`(name, dim)`) of a parameter: "output", "input", "scale", "statistic" or
            "shift", the default. Axes are named after the first tensor of which they are the output.
        macs: the multiply-adds of one call, as products of sizes.
        attributes: integers in modules that are the number of units of an axis, such as `out_features`.
        readers: the weights that sum over units, for calibration and recovery.
        storages: the memory that one call allocates. Without it, memory is that of the parameters and buffers.

    Returns:
        The Graph. It has no blocks for depth pruning, and `graph.why` cannot name ops.

    Raises:
        InputError: a name is not that of a tensor or integer of the model, or a size differs.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8, bias=False), nn.Linear(8, 2, bias=False))
        >>> inputs, hidden, outputs = Axis(4, "model input"), Axis(8), Axis(2, "model output")
        >>> graph = build_graph(
        ...     net,
        ...     {"0.weight": (hidden, inputs), "1.weight": (outputs, hidden)},
        ...     roles={("0.weight", 0): "output", ("1.weight", 1): "input"},
        ... )
        >>> [(axis.name, axis.size) for axis in graph.axes], graph.params
        ([('0', 8)], 48)
    """
    roles = roles or {}
    sites = _sites(model, dims)
    settle_sites(sites, {name: UNDESCRIBED for name in sites if name not in dims})
    named = named_axes(find_candidates(sites), sites, roles, id)
    live = {axis.term for axis in named}
    values = {attribute: _value(model, attribute, axis) for attribute, axis in (attributes or {}).items()}
    ratios = {attribute: Ratio.of(Poly.variable(axis)) for attribute, axis in (attributes or {}).items()}
    return Graph(
        axes=tuple(named),
        groups=grouped(named),
        sites=sites,
        macs=merged_macs(macs, live),
        model=model,
        storages=tuple(storages),
        readers={reader.weight: reader for reader in readers},
        sizes=Sizes(attributes=ratios, values=values),
        diagnosis=Diagnosis(frozen=frozen_dims(sites, live)),
    )


def _sites(model: nn.Module, dims: Mapping[str, Sequence[Term]]) -> dict[str, GraphSite]:
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    tensors = {**parameters, **buffers}
    for name in dims:
        if name not in tensors:
            raise InputError(
                f"dims names {name!r}, which is not a tensor of the model{nearest(name, tensors)}\n"
                "use the names of model.named_parameters() and model.named_buffers()"
            )
    return {
        name: GraphSite(
            name, "parameter" if name in parameters else "buffer", _terms(name, t, dims.get(name)), t.element_size()
        )
        for name, t in tensors.items()
    }


def _terms(name: str, tensor: Tensor, terms: Sequence[Term] | None) -> tuple[Term, ...]:
    if terms is None:
        return tuple(Axis(n, UNDESCRIBED) for n in tensor.shape)
    if [term.n for term in terms] != list(tensor.shape):
        sizes = ", ".join(str(term.n) for term in terms)
        raise InputError(
            f"dims describes {name!r} as ({sizes}), and its shape is {tuple(tensor.shape)}\n"
            "pass one term of the same size for each dimension"
        )
    return tuple(map(find, terms))


def _value(model: nn.Module, attribute: Attribute, axis: Axis) -> int:
    modules = dict(model.named_modules())
    value = getattr(modules.get(attribute.module), attribute.name, None)
    value = value[attribute.at] if isinstance(value, (tuple, list)) and attribute.at is not None else value
    if value != axis.n:
        raise InputError(
            f"attributes says that {attribute} is {axis.n}, and it is {value}\n"
            "name an integer of a module that is the number of units of the axis"
        )
    return axis.n


def find_candidates(sites: Mapping[str, GraphSite]) -> list[Axis]:
    """Return the axes of parameters that nothing forbids to prune."""
    found: dict[Axis, None] = {}
    for site in sites.values():
        if site.kind == "parameter":
            for dim in site.dims:
                found.update((axis, None) for axis in axes(dim))
    return [axis for axis in found if axis.frozen is None and not is_unsafe(axis) and axis.n > axis.least]


def is_unsafe(axis: Axis) -> bool:
    """Return whether an axis may not be pruned. Experts may: a softmax over them only means one choice less."""
    return axis.unsafe and axis.kind != EXPERT


def merged_macs(recorded: Iterable[MacsTerm], live: set[Axis]) -> tuple[MacsTerm, ...]:
    """Return multiply-adds in which dimensions without prunable axes are numbers."""
    out = []
    for macs in recorded:
        coefficient, terms = macs.coefficient, []
        for term in map(sized, macs.terms):
            if any(axis in live for axis in axes(term)):
                terms.append(term)
            else:
                coefficient *= term.n
        out.append(MacsTerm(macs.layer, coefficient, tuple(terms)))
    return tuple(out)


def named_axes(
    live: Sequence[Axis],
    sites: Mapping[str, GraphSite],
    roles: Mapping[tuple[str, int], str],
    group_of: Callable[[Axis], object],
) -> list[PrunableAxis]:
    """Name each axis after the module that outputs it first; several axes of one module are numbered."""
    uses: dict[Axis, list[SiteUse]] = {axis: [] for axis in live}
    for name, site in sites.items():
        for dim, term in enumerate(site.dims):
            role = roles.get((name, dim), "shift")
            for axis in dict.fromkeys(axes(term)):
                if axis in uses:
                    uses[axis].append(SiteUse(name, dim, role))
    homes = {axis: _home(found) for axis, found in uses.items()}
    crowd = Counter(homes.values())
    seen: Counter[str] = Counter()
    groups: dict[object, int] = {}
    named = []
    for axis, found in uses.items():
        home = homes[axis]
        name = f"{home}[{seen[home]}]" if crowd[home] > 1 else home
        seen[home] += 1
        group = groups.setdefault(group_of(axis), len(groups))
        named.append(PrunableAxis(name, axis, tuple(found), group))
    return named


def _home(uses: Sequence[SiteUse]) -> str:
    names = [plain_of(use.name) for use in uses if use.role == "output"] or [plain_of(uses[0].name)]
    module = names[0].rpartition(".")[0]
    stored = {use.name for use in uses}
    computed = (n for n in names if n not in stored and n.rpartition(".")[0] == module)
    name = next(computed, names[0])  # what a weight is computed from is in a child, after the other parameters
    return module if module and name.rpartition(".")[2] in ("weight", "bias") else name


def grouped(named: Sequence[PrunableAxis]) -> tuple[Group, ...]:
    """Return the groups of named axes, in the order of their numbers."""
    members: dict[int, list[PrunableAxis]] = {}
    for axis in named:
        members.setdefault(axis.group, []).append(axis)
    return tuple(Group(tuple(group), math.gcd(*(axis.size for axis in group))) for group in members.values())


def frozen_dims(sites: Mapping[str, GraphSite], live: set[Axis]) -> tuple[Frozen, ...]:
    """Return the dimensions of parameters with units that are not prunable, each with the reason."""
    out = []
    for name, site in sites.items():
        if site.kind == "parameter":
            for dim, term in enumerate(site.dims):
                reasons = dict.fromkeys(reason_of(axis) for axis in stuck_in(term, live))
                if len(reasons) > 1:
                    reasons.pop(ALONE, None)  # the other reasons explain it
                out += [Frozen(name, dim, reason) for reason in reasons]
    return tuple(out)


def settle_sites(sites: Mapping[str, GraphSite], unread: Mapping[str, str]) -> None:
    """Settle parameters, which are sliced by dimension: a `PerUnit` needs its outer axis in its own dimension.

    unread: the reasons for which parameters are frozen whose values no call read.
    """
    for name, site in sites.items():
        for dim in site.dims:
            settle([merged(dim)])
            if name in unread:
                freeze(dim, unread[name])
