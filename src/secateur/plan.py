"""The Plan: which units stay, and everything that follows from it. Frozen, free of tensors, JSON.

Surgery, saving and loading, reports and the command line all read the same Plan. Kept units are listed per axis; a
site says by a term how the positions of each of its dimensions are made of axes. In JSON a term is an axis' name, a
number (that many positions, all kept), {"cat": [...]} or {"product": [...]}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

from .caches import Cache
from .errors import FileError, InputError, PruningError
from .renumbering import Names, Pick, Renumbering
from .terms import Axis, Cat, Each, Product, Term, axes, positions, size

Code: TypeAlias = "str | int | Mapping[str, Sequence[Code]]"
# What a block gave of its arguments, by position or keyword: one, or a tuple of them and None for what else it gave.
# None alone: the only argument it had.
Gives: TypeAlias = "int | str | tuple[int | str | None, ...] | None"
# A plain value of JSON: what an option of a recovery step is set to.
Option: TypeAlias = "str | int | float | bool | None"
FORMAT = 1
UNREAD = "unread"  # the note that names integers which may be out of date


@dataclass(frozen=True, slots=True)
class AxisPlan:
    """Of `size` units these stay: a list, or one list per unit of `outer` if each of those chooses its own."""

    size: int
    kept: tuple[int, ...] | tuple[tuple[int, ...], ...] | None
    outer: Code | None = None

    @property
    def count(self) -> int:
        """How many units stay (for each outer unit)."""
        if self.kept is None:
            return self.size
        return len(self.kept[0]) if self.outer is not None else len(self.kept)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """An integer attribute of a module, or one place of a tuple or list of them."""

    module: str
    name: str
    index: int | None
    old: int
    new: int


@dataclass(frozen=True, slots=True)
class Scale:
    """Rows of a parameter dimension, as half-open ranges, are multiplied by `factor`."""

    name: str
    dim: int
    rows: tuple[tuple[int, int], ...]
    factor: float


@dataclass(frozen=True, slots=True)
class Renorm:
    """A gain `name` scales a weight `of` after each slice along `dim` was divided by its norm (weight norm). What is
    dropped of the slices shortens them: the gain is multiplied by what is left of their norm, so that what is kept of
    the weight stays what it was."""

    name: str
    of: str
    dim: int


@dataclass(frozen=True, slots=True)
class Added:
    """A parameter of zeros, `conv2.bias`, that the cut model has beside those of the original. It is as long as
    dimension `dim` of `like` after the cut, and of its dtype, device and `requires_grad`. Its module must have been
    built without it, as `bias=False` does: then it runs the same, and recovery has somewhere to write to."""

    name: str
    like: str
    dim: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """A step that changed weights after the cut, as `lsq`, and the options it was taken with. The weights themselves
    are in the saved file: a plan cannot give them again."""

    step: str
    options: Mapping[str, Option] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Totals:
    """Parameters, multiply-adds, and bytes at the peak of a call (None where nobody knows)."""

    params: int
    macs: int
    memory: int | None = None

    def as_list(self) -> list[int]:
        """What is known."""
        return [self.params, self.macs, *([self.memory] if self.memory is not None else [])]


@dataclass(frozen=True)
class Plan:
    """What is cut. `print(plan)` shows it; `Plan.from_json(plan.to_json()) == plan`.

    `removed`: modules that are bypassed, with what they gave back of their arguments; where `renumbered` closes the
    gaps that they leave in lists, they are taken out instead. `added`: parameters that the cut model has and the
    original has not. `recovery`: the steps, in order, that changed its weights afterwards; a cut by the plan takes none
    of them.
    """

    axes: Mapping[str, AxisPlan]
    sites: Mapping[str, tuple[Code, ...]]
    attributes: tuple[AttributeChange, ...]
    scales: tuple[Scale, ...]
    before: Totals
    after: Totals
    renorms: tuple[Renorm, ...] = ()
    target: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    caches: tuple[Cache, ...] = ()  # to be emptied: `forward` fills them again
    removed: Mapping[str, Gives] = field(default_factory=dict)
    added: tuple[Added, ...] = ()
    recovery: tuple[Recovery, ...] = ()
    renumbered: Renumbering | None = None

    @cached_property
    def names(self) -> Names:
        """What modules and tensors are called before and after the cut; the plan calls them as before."""
        return Names(self.removed, self.renumbered.lists if self.renumbered is not None else ())

    @cached_property
    def _terms(self) -> dict[str, Axis]:
        """An axis object for every name; the inner ones know their outer terms."""
        made: dict[str, Axis] = {}
        for name, axis in self.axes.items():
            made[name] = Axis(axis.size) if axis.outer is None else Each(axis.size, None)
        for name, axis in self.axes.items():
            inner = made[name]
            if axis.outer is not None and isinstance(inner, Each):
                inner.outer = _decoded(axis.outer, made)
        return made

    @property
    def is_empty(self) -> bool:
        """Whether nothing is cut."""
        return not self.removed and all(axis.count == axis.size for axis in self.axes.values())

    def term(self, code: Code) -> Term:
        """The term that a code stands for."""
        return _decoded(code, self._terms)

    @cached_property
    def kept_units(self) -> dict[Axis, Any]:
        """Kept units by axis, as `terms.positions` reads them."""
        return {self._terms[name]: axis.kept for name, axis in self.axes.items() if axis.kept is not None}

    @cached_property
    def _moved(self) -> set[Axis]:
        """The axes that do not keep every unit in its place."""
        return {axis for axis, kept in self.kept_units.items() if not _whole(axis.n, kept)}

    @cached_property
    def _counts(self) -> dict[Axis, int]:
        return {self._terms[name]: axis.count for name, axis in self.axes.items()}

    def positions(self, name: str) -> list[list[int] | None]:
        """Of a site, the positions that stay in each dimension; None where all do."""
        return [self._positions(code) for code in self.sites[name]]

    def _positions(self, code: Code) -> list[int] | None:
        """The positions of one term, worked out once: many sites share it."""
        key = code if isinstance(code, (str, int)) else repr(code)
        if key not in self._worked_out:
            term = self.term(code)
            moved = not self._moved.isdisjoint(axes(term))
            self._worked_out[key] = positions(term, self.kept_units) if moved else None
        return self._worked_out[key]

    @cached_property
    def _worked_out(self) -> dict[str | int, list[int] | None]:
        return {}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a site after the cut."""
        return tuple(size(self.term(code), self._counts) for code in self.sites[name])

    def old_shape(self, name: str) -> tuple[int, ...]:
        """The shape of a site before the cut."""
        return tuple(self.term(code).n for code in self.sites[name])

    def dropped(self) -> Iterator[tuple[str, AxisPlan]]:
        """The axes that lose units."""
        return ((name, axis) for name, axis in self.axes.items() if axis.count < axis.size)

    def then(self, second: Plan) -> Plan:
        """One plan for this one followed by `second`, which was made on the model that this one gives.

        It has the units, sizes and parameters of both, and names the recovery steps of both in their order; as no
        plan can, it does not give recovered weights again. Raises `PruningError` where the second does not continue
        the first.
        """
        from .compose import compose

        return compose(self, second)

    # --- JSON ---

    def to_json(self) -> str:
        """The plan as one JSON object."""
        return json.dumps(
            {
                "format": FORMAT,
                "axes": {
                    name: {"size": a.size, "kept": a.kept, **({"outer": a.outer} if a.outer is not None else {})}
                    for name, a in self.axes.items()
                },
                "sites": {name: list(codes) for name, codes in self.sites.items()},
                "attributes": [[a.module, a.name, a.index, a.old, a.new] for a in self.attributes],
                "scales": [[s.name, s.dim, s.rows, s.factor] for s in self.scales],
                "renorms": [[r.name, r.of, r.dim] for r in self.renorms],
                "before": self.before.as_list(),
                "after": self.after.as_list(),
                "target": list(self.target),
                "notes": dict(self.notes),
                **({"caches": self.caches} if self.caches else {}),
                **({"removed": dict(self.removed)} if self.removed else {}),
                **({"added": [[a.name, a.like, a.dim] for a in self.added]} if self.added else {}),
                **({"recovery": [[r.step, dict(r.options)] for r in self.recovery]} if self.recovery else {}),
                **({"renumbered": _renumbering_data(self.renumbered)} if self.renumbered is not None else {}),
            },
            separators=(",", ":"),
        )

    @staticmethod
    def from_json(text: str) -> Plan:
        """Read a plan back. Raises `FileError` where the text is none, or where it makes no sense in itself."""
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise FileError(f"a plan of format {data['format']!r}; this secateur reads format {FORMAT}: update it")
            return _checked(_from_data(data))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            if isinstance(error, FileError):
                raise
            raise FileError(f"this is no secateur plan: {type(error).__name__}: {error}") from error

    def __str__(self) -> str:
        from .plan_text import table

        return table(self)


def _checked(plan: Plan) -> Plan:
    from .plan_check import check_plan

    check_plan(plan)
    return plan


def needs_plan(plan: object) -> None:
    """Raise `InputError` for anything but a Plan."""
    if not isinstance(plan, Plan):
        raise InputError(
            f"plan is a {type(plan).__name__}: {str(plan)[:60]}\n"
            "make one with secateur.plan(graph, target), or read one with Plan.from_json(text)"
        )


def _from_data(data: Mapping[str, Any]) -> Plan:
    return Plan(
        axes={
            name: AxisPlan(a["size"], _tupled(a["kept"]), _code(a["outer"]) if "outer" in a else None)
            for name, a in data["axes"].items()
        },
        sites={name: tuple(map(_code, codes)) for name, codes in data["sites"].items()},
        attributes=tuple(AttributeChange(*a) for a in data["attributes"]),
        scales=tuple(Scale(n, d, tuple((a, b) for a, b in rows), f) for n, d, rows, f in data["scales"]),
        renorms=tuple(Renorm(*r) for r in data.get("renorms", ())),
        before=Totals(*data["before"]),
        after=Totals(*data["after"]),
        target=tuple(data["target"]),
        notes=dict(data["notes"]),
        caches=tuple(Cache(*cache) for cache in data.get("caches", ())),
        removed={name: _gives(gives) for name, gives in data.get("removed", {}).items()},
        added=tuple(Added(*added) for added in data.get("added", ())),
        recovery=tuple(Recovery(step, dict(options)) for step, options in data.get("recovery", ())),
        renumbered=_renumbering(data["renumbered"]) if "renumbered" in data else None,
    )


def _renumbering_data(one: Renumbering) -> dict[str, Any]:
    return {
        "lists": one.lists,
        "numbers": [[a.module, a.name, a.index, a.old, a.new] for a in one.numbers],
        "picks": [[p.module, p.name, p.old, p.kept] for p in one.picks],
    }


def _renumbering(data: Mapping[str, Any]) -> Renumbering:
    return Renumbering(
        tuple(data["lists"]),
        tuple(AttributeChange(*a) for a in data["numbers"]),
        tuple(Pick(module, name, tuple(old), tuple(kept)) for module, name, old, kept in data["picks"]),
    )


def _whole(n: int, kept: Any) -> bool:
    """Whether a list (or each of several) is 0, 1, ..., n - 1."""
    rows = kept if kept and isinstance(kept[0], tuple) else (kept,)
    return all(tuple(row) == tuple(range(n)) for row in rows)


def _tupled(kept: Any) -> Any:
    """Lists of whole numbers, or lists of such lists, as tuples; None is left."""
    if kept is None:
        return None
    if not isinstance(kept, list) or not all(type(k) in (int, list) for k in kept):
        raise TypeError(f"kept units are lists of whole numbers, not {kept!r}")
    return tuple(_tupled(k) if isinstance(k, list) else k for k in kept)


def _gives(gives: Any) -> Gives:
    return tuple(gives) if isinstance(gives, list) else gives


def _code(code: Any) -> Code:
    if isinstance(code, Mapping):
        ((kind, parts),) = code.items()
        return {kind: tuple(map(_code, parts))}
    return code


def _decoded(code: Code, made: Mapping[str, Axis]) -> Term:
    if isinstance(code, str):
        return made[code]
    if isinstance(code, int):
        return Axis(code)
    ((kind, parts),) = code.items()
    terms = tuple(_decoded(part, made) for part in parts)
    if kind not in _KINDS:
        raise ValueError(f"a term is a cat or a product, not a {kind!r}")
    return _KINDS[kind](terms)


_KINDS: dict[str, type[Cat] | type[Product]] = {"cat": Cat, "product": Product}


def encoded(term: Term, name_of: Callable[[Axis], str | int]) -> Code:
    """A term as JSON data; `name_of` gives an axis' name, or its size if all of it stays."""
    if isinstance(term, Axis):
        return name_of(term)
    kind = "cat" if isinstance(term, Cat) else "product"
    return {kind: tuple(encoded(part, name_of) for part in term.parts)}


def with_notes(plan: Plan, **notes: str) -> Plan:
    """The same plan with further notes (criterion, seed, ...)."""
    return replace(plan, notes={**plan.notes, **notes})


__all__ = [
    "UNREAD",
    "Added",
    "AttributeChange",
    "AxisPlan",
    "Gives",
    "Plan",
    "PruningError",
    "Recovery",
    "Renorm",
    "Renumbering",
    "Scale",
    "Totals",
    "encoded",
    "needs_plan",
    "with_notes",
]
