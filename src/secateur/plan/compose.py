"""The composition of two plans: `first.then(second)`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from secateur.base.names import inside
from secateur.errors import PruningError
from secateur.plan.choice import Choice
from secateur.plan.parts import Added, AttributeChange, AxisPlan, Code, Renumbering, Scale
from secateur.terms import positions

C = TypeVar("C", bound=Choice)


def compose(first: C, second: C) -> C:
    """Return the plan that does to a model what `first` and then `second` do.

    It is composed axis by axis where the two plans have the same axes; else the positions of every site are listed. A
    parameter that the first adds and the second cuts is added in its final length. Recovered weights are not part of a
    plan: the composed plan produces the same units, sizes and parameters, and names the recovery steps of both in their
    order, but the weights are in the saved file only.
    Raises `PruningError` where the second was not made on the model that the first produces.
    """
    second = _as_before(second, first)
    for name in (*second.sites, *second.removed):
        if inside(name, first.removed):
            raise PruningError(f"the second plan does not continue the first: {name} is removed by the first")
    first = _left_by(first, second.removed)
    second = _continuing(second, first)
    for name in second.sites:
        if name in first.sites and first.shape(name) != second.old_shape(name):
            raise PruningError(
                f"the second plan does not continue the first: {name}\n"
                f"  after the first    {first.shape(name)}\n  before the second  {second.old_shape(name)}"
            )
    expected = {name: _positions(name, first, second) for name in {**first.sites, **second.sites}}
    try:
        plan = _by_axis(first, second)
        if all(_written_out(plan, name) == positions for name, positions in expected.items()):
            return plan
    except (PruningError, AssertionError, IndexError, ValueError):
        pass  # an axis cut down to one unit changes what its neighbours are made of
    return _by_site(first, second, expected)


def _positions(name: str, first: Choice, second: Choice) -> list[list[int]]:
    """Return the positions of a site that stay after both, in the numbering of the original."""
    if name not in first.sites or name not in second.sites:
        return _written_out(first if name in first.sites else second, name)
    pairs = zip(_written_out(first, name), _written_out(second, name), strict=True)
    return [[kept[i] for i in again] for kept, again in pairs]


def _written_out(plan: Choice, name: str) -> list[list[int]]:
    sizes = zip(plan.positions(name), plan.old_shape(name), strict=True)
    return [list(range(n)) if kept is None else kept for kept, n in sizes]


def _by_site(first: C, second: C, expected: Mapping[str, list[list[int]]]) -> C:
    """Return the composed plan with a separate axis for every dimension of every site."""
    shapes = {name: (first if name in first.sites else second).old_shape(name) for name in expected}
    return replace(
        first,
        axes={
            f"{name}[{dim}]": AxisPlan(shapes[name][dim], tuple(kept))
            for name, dims in expected.items()
            for dim, kept in enumerate(dims)
        },
        sites={name: tuple(f"{name}[{dim}]" for dim in range(len(dims))) for name, dims in expected.items()},
        **_rest(first, second),
    )


def _by_axis(first: C, second: C) -> C:
    second = _renamed(second, _names(first, second))
    return replace(
        first,
        axes={name: _axis(name, first, second) for name in {**first.axes, **second.axes}},
        sites={name: _site(name, first, second) for name in {**first.sites, **second.sites}},
        **_rest(first, second),
    )


def _rest(first: Choice, second: Choice) -> dict[str, Any]:
    """Return all fields of a composed plan except its axes and sites."""
    return {
        "attributes": _changes(first.attributes, second.attributes),
        "scales": (*first.scales, *(_scale(scale, first) for scale in second.scales)),
        "renorms": tuple(dict.fromkeys((*first.renorms, *second.renorms))),  # one ratio of the last norm to the first
        "before": first.before,
        "after": second.after,
        "target": (*first.target, *second.target),
        "notes": {**first.notes, **second.notes},
        "caches": tuple(dict.fromkeys((*first.caches, *second.caches))),
        "removed": {**first.removed, **second.removed},
        "added": (*first.added, *second.added),
        "recovery": (*first.recovery, *second.recovery),
        "renumbered": _renumbered(first.renumbered, second.renumbered),
        "uncut": None if first.uncut is None else {n: s for n, s in first.uncut.items() if n not in second.sites},
    }


# Where the first plan closes gaps, the second plan has other names for the modules behind them.
def _as_before(second: C, first: C) -> C:
    """Return the second plan with the names that modules and tensors had before the first."""
    old = first.names.before
    if not first.names:
        return second
    kept = {(pick.module, pick.name): pick.kept for pick in first.renumbered.picks} if first.renumbered else {}

    def change(one: AttributeChange) -> AttributeChange:
        picked = kept.get((old(one.module), one.name))
        index = one.index if picked is None or one.index is None else picked[one.index]
        return replace(one, module=old(one.module), index=index)

    return replace(
        second,
        sites={old(name): codes for name, codes in second.sites.items()},
        uncut=None if second.uncut is None else {old(name): shape for name, shape in second.uncut.items()},
        attributes=tuple(map(change, second.attributes)),
        scales=tuple(replace(scale, name=old(scale.name)) for scale in second.scales),
        renorms=tuple(replace(one, name=old(one.name), of=old(one.of)) for one in second.renorms),
        caches=tuple(cache._replace(module=old(cache.module)) for cache in second.caches),
        removed={old(name): gives for name, gives in second.removed.items()},
        added=tuple(replace(one, name=old(one.name), like=old(one.like)) for one in second.added),
        renumbered=None
        if second.renumbered is None
        else Renumbering(
            tuple(map(old, second.renumbered.lists)),
            tuple(map(change, second.renumbered.numbers)),
            tuple(replace(pick, module=old(pick.module)) for pick in second.renumbered.picks),
        ),
    )


def _renumbered(first: Renumbering | None, second: Renumbering | None) -> Renumbering | None:
    if first is None or second is None:
        return first or second
    picks = {(pick.module, pick.name): pick for pick in first.picks}
    for pick in second.picks:
        earlier = picks.get((pick.module, pick.name))
        picks[pick.module, pick.name] = (
            pick if earlier is None else replace(earlier, kept=_picked(earlier.kept, pick.kept))
        )
    lists = tuple(dict.fromkeys((*first.lists, *second.lists)))
    return Renumbering(lists, _changes(first.numbers, second.numbers), tuple(picks.values()))


def _left_by(plan: C, removed: Collection[str]) -> C:
    """Return a plan without its changes inside modules that are removed afterwards."""
    sites = {name: codes for name, codes in plan.sites.items() if not inside(name, removed)}
    if len(sites) == len(plan.sites):
        axes = plan.axes
    else:
        seen = {axis for codes in sites.values() for code in codes for axis in _axes_in(code)}
        outer = {n for axis in seen if (code := plan.axes[axis].outer) is not None for n in _axes_in(code)}
        axes = {name: axis for name, axis in plan.axes.items() if name in seen | outer}
    return replace(
        plan,
        axes=axes,
        sites=sites,
        attributes=tuple(change for change in plan.attributes if not inside(change.module, removed)),
        scales=tuple(scale for scale in plan.scales if not inside(scale.name, removed)),
        caches=tuple(cache for cache in plan.caches if not inside(cache.module, removed)),
        removed={name: gives for name, gives in plan.removed.items() if not inside(name, removed)},
        added=tuple(added for added in plan.added if not inside(added.name, removed)),
        renumbered=_without(plan.renumbered, removed),
        uncut=None if plan.uncut is None else {n: s for n, s in plan.uncut.items() if not inside(n, removed)},
    )


def _without(one: Renumbering | None, removed: Collection[str]) -> Renumbering | None:
    if one is None:
        return None
    return Renumbering(
        tuple(name for name in one.lists if not inside(name, removed)),
        tuple(change for change in one.numbers if not inside(change.module, removed)),
        tuple(pick for pick in one.picks if not inside(pick.module, removed)),
    )


def _axes_in(code: Code) -> Iterator[str]:
    if isinstance(code, str):
        yield code
    elif not isinstance(code, int):
        for parts in code.values():
            for part in parts:
                yield from _axes_in(part)


# A parameter that the first plan adds is not a site of the original; its length follows from `like`.
def _continuing(second: C, first: C) -> C:
    """Return the second plan without its changes to parameters that the first adds."""
    like = {added.name: added for added in first.added}
    for added in first.added:
        _check_follows(added, first, second)
    for added in second.added:
        if added.name in like or added.name in first.sites:
            raise PruningError(
                f"the second plan does not continue the first: {added.name} already exists after the first"
            )
    return replace(
        second,
        sites={name: codes for name, codes in second.sites.items() if name not in like},
        scales=tuple(scale for scale in second.scales if scale.name not in like),  # zeros stay zeros
        added=tuple(_like_an_original(added, like) for added in second.added),
    )


def _like_an_original(added: Added, like: Mapping[str, Added]) -> Added:
    other = like.get(added.like)
    return added if other is None else Added(added.name, other.like, other.dim)


def _check_follows(added: Added, first: Choice, second: Choice) -> None:
    """Raise `PruningError` unless the second plan cuts an added parameter in the same way as its `like`."""
    mine, its = (
        second.positions(name)[dim] if name in second.sites else None
        for name, dim in ((added.name, 0), (added.like, added.dim))
    )
    wrong = added.name in second.sites and added.like in first.sites
    wrong = wrong and second.old_shape(added.name) != (first.shape(added.like)[added.dim],)
    if mine != its or wrong or inside(added.like, second.removed):
        raise PruningError(
            f"the two plans cannot be composed: the first adds {added.name}, as long as {added.like}[{added.dim}], and "
            "the second cuts them differently\nkeep the two plans, and cut with one after the other"
        )


# An axis whose neighbours were cut down to one unit may have another name afterwards.
def same_axes(first: Choice, second: Choice) -> dict[str, str]:
    """Return the names in the first plan of the axes of the second, where both have the same units.

    Raises `PruningError` where they disagree.
    """
    return {name: old for name, old in _names(first, _as_before(second, first)).items() if old in first.axes}


def _names(first: Choice, second: Choice) -> dict[str, str]:
    """Return the names in the first plan of the axes of the second; new names for those that it lacks."""
    names: dict[str, str] = {}
    for site, codes in second.sites.items():
        for a, b in zip(first.sites.get(site, ()), codes, strict=False):
            _match(_left(a, first), b, site, names)
    taken = set(names.values())
    return {**{name: name if name not in taken else f"{name}'" for name in second.axes if name not in names}, **names}


def _left(code: Code, plan: Choice) -> Code:
    """Return a term without the factors that the plan cuts down to one unit."""
    if isinstance(code, str):
        return 1 if plan.axes[code].kept_count == 1 else code
    if isinstance(code, int):
        return code
    ((kind, parts),) = code.items()
    left = [_left(part, plan) for part in parts]
    if kind == "product":
        left = [part for part in left if part != 1]
        if len(left) < 2:
            return left[0] if left else 1
    return {kind: tuple(left)}


def _match(a: Code, b: Code, site: str, names: dict[str, str]) -> None:
    if isinstance(a, str) and isinstance(b, str):
        if names.setdefault(b, a) == a:
            return
    elif isinstance(a, Mapping) and isinstance(b, Mapping):
        ((kind, xs),), ((other, ys),) = a.items(), b.items()
        if kind == other and len(xs) == len(ys):
            for x, y in zip(xs, ys, strict=True):
                _match(x, y, site, names)
            return
    elif isinstance(a, int) or isinstance(b, int):
        return
    raise PruningError(f"the two plans disagree about the axes of {site!r}: {a} and {b}")


def _renamed(plan: C, names: Mapping[str, str]) -> C:
    def code(old: Code) -> Code:
        if isinstance(old, str):
            return names[old]
        if isinstance(old, int):
            return old
        return {kind: tuple(map(code, parts)) for kind, parts in old.items()}

    axes = {
        names[name]: replace(axis, outer=code(axis.outer) if axis.outer is not None else None)
        for name, axis in plan.axes.items()
    }
    return replace(plan, axes=axes, sites={name: tuple(map(code, codes)) for name, codes in plan.sites.items()})


def _axis(name: str, first: Choice, second: Choice) -> AxisPlan:
    a, b = first.axes.get(name), second.axes.get(name)
    if a is None or b is None:
        return a or b  # type: ignore[return-value]
    if b.size != a.kept_count or (a.outer is None and b.outer is not None):
        raise PruningError(f"the second plan expects {b.size} units of {name!r}, the first leaves {a.kept_count}")
    if a.kept is None or b.kept is None:
        return AxisPlan(a.size, a.kept if b.kept is None else b.kept, a.outer)
    return AxisPlan(a.size, _per_outer(a, b, first) if a.outer is not None else _picked(a.kept, b.kept), a.outer)


def _picked(kept: Sequence[Any], again: Sequence[Any]) -> tuple[int, ...]:
    return tuple(kept[i] for i in again)


def _per_outer(a: AxisPlan, b: AxisPlan, first: Choice) -> tuple[tuple[int, ...], ...]:
    """Return the units that stay per outer unit. Rows of dropped outer units keep any units of the right number."""
    assert a.outer is not None
    assert a.kept is not None
    assert b.kept is not None
    survivors = positions(first.term(a.outer), first.kept_units)
    rows: list[Any] = [row[: b.kept_count] for row in a.kept]  # type: ignore[index]
    chosen = (
        b.kept if b.outer is not None else [b.kept] * len(survivors)
    )  # a single outer unit left is no longer an axis
    for again, place in zip(chosen, survivors, strict=True):
        rows[place] = _picked(a.kept[place], again)  # type: ignore[arg-type]
    return tuple(rows)


def _site(name: str, first: Choice, second: Choice) -> tuple[Code, ...]:
    """Return the terms of a site; where one plan has a constant for an axis, the name in the other plan is used."""
    a, b = first.sites.get(name), second.sites.get(name)
    if a is None or b is None:
        return a or b  # type: ignore[return-value]
    return tuple(_code(x, y) for x, y in zip(a, b, strict=True))


def _code(a: Code, b: Code) -> Code:
    if isinstance(a, int):
        return b
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        ((kind, xs),), ((other, ys),) = a.items(), b.items()
        if kind == other and len(xs) == len(ys):
            return {kind: tuple(map(_code, xs, ys))}
    return a


def _changes(first: Sequence[AttributeChange], second: Sequence[AttributeChange]) -> tuple[AttributeChange, ...]:
    changes = {(c.module, c.name, c.index): c for c in first}
    for c in second:
        earlier = changes.get((c.module, c.name, c.index))
        changes[c.module, c.name, c.index] = AttributeChange(
            c.module, c.name, c.index, earlier.old if earlier is not None else c.old, c.new
        )
    return tuple(changes.values())


def _scale(scale: Scale, first: Choice) -> Scale:
    """Return a scale of the second plan with its rows in the numbering of the original."""
    kept = first.positions(scale.name)[scale.dim] if scale.name in first.sites else None
    if kept is None:
        return scale
    rows = tuple((kept[i], kept[i] + 1) for start, stop in scale.rows for i in range(start, stop))
    return Scale(scale.name, scale.dim, rows, scale.factor)
