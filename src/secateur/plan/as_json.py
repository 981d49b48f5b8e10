"""Writing a plan as one JSON object, and reading its fields from one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from secateur.errors import FileError
from secateur.plan.choice import Choice
from secateur.plan.codes import code_of
from secateur.plan.parts import (
    Added,
    AttributeChange,
    AxisPlan,
    Cache,
    Gives,
    Pick,
    Recovery,
    Renorm,
    Renumbering,
    Scale,
    Totals,
)

FORMAT = 1


def written(plan: Choice) -> str:
    """Return the plan as one JSON object."""
    return json.dumps(
        {
            "format": FORMAT,
            "axes": {
                name: {"size": a.size, "kept": a.kept, **({"outer": a.outer} if a.outer is not None else {})}
                for name, a in plan.axes.items()
            },
            "sites": {name: list(codes) for name, codes in plan.sites.items()},
            "attributes": [[a.module, a.name, a.index, a.old, a.new] for a in plan.attributes],
            "scales": [[s.name, s.dim, s.rows, s.factor] for s in plan.scales],
            "renorms": [[r.name, r.of, r.dim] for r in plan.renorms],
            "before": plan.before.as_list(),
            "after": plan.after.as_list(),
            "target": list(plan.target),
            "notes": dict(plan.notes),
            **({"caches": plan.caches} if plan.caches else {}),
            **({"removed": dict(plan.removed)} if plan.removed else {}),
            **({"added": [[a.name, a.like, a.dim] for a in plan.added]} if plan.added else {}),
            **({"recovery": [[r.step, dict(r.options)] for r in plan.recovery]} if plan.recovery else {}),
            **({"renumbered": _renumbering_data(plan.renumbered)} if plan.renumbered is not None else {}),
            **({"uncut": dict(plan.uncut)} if plan.uncut is not None else {}),
        },
        separators=(",", ":"),
    )


def fields(text: str) -> dict[str, Any]:
    """Return the fields of a plan from JSON. Raises `FileError` for a string that is not a plan."""
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise FileError(
                f"the plan has format {data['format']!r}; this secateur reads format {FORMAT}\nupdate secateur"
            )
        return _from_data(data)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, FileError):
            raise
        raise no_plan(error, text) from error


def no_plan(error: Exception, text: object = "text") -> FileError:
    """Return the error for a string that is not a plan."""
    fix = f"\nfrom_json reads what a file holds, not its name: {how_to_read(text)}" if _is_name(text) else ""
    return FileError(f"this is not a secateur plan: {type(error).__name__}: {error}{fix}")


def how_to_read(given: object) -> str:
    """Return the code that reads a plan where the name of a file was given.

    >>> how_to_read("plan.json")
    "Plan.from_json(Path('plan.json').read_text())"
    """
    return f"Plan.from_json({f'Path({str(given)!r}).read_text()' if _is_name(given) else 'text'})"


def _is_name(given: object) -> bool:
    return isinstance(given, PurePath) or (isinstance(given, str) and given.endswith(".json"))


def _from_data(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "axes": {
            name: AxisPlan(a["size"], _tupled(a["kept"]), code_of(a["outer"]) if "outer" in a else None)
            for name, a in data["axes"].items()
        },
        "sites": {name: tuple(map(code_of, codes)) for name, codes in data["sites"].items()},
        "attributes": tuple(AttributeChange(*a) for a in data["attributes"]),
        "scales": tuple(Scale(n, d, tuple((a, b) for a, b in rows), f) for n, d, rows, f in data["scales"]),
        "renorms": tuple(Renorm(*r) for r in data.get("renorms", ())),
        "before": Totals.read(*data["before"]),
        "after": Totals.read(*data["after"]),
        "target": tuple(data["target"]),
        "notes": dict(data["notes"]),
        "caches": tuple(Cache(*cache) for cache in data.get("caches", ())),
        "removed": {name: _gives(gives) for name, gives in data.get("removed", {}).items()},
        "added": tuple(Added(*added) for added in data.get("added", ())),
        "recovery": tuple(Recovery(step, dict(options)) for step, options in data.get("recovery", ())),
        "renumbered": _renumbering(data["renumbered"]) if "renumbered" in data else None,
        "uncut": {name: tuple(shape) for name, shape in data["uncut"].items()} if "uncut" in data else None,
    }


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


def _tupled(kept: Any) -> Any:
    """Return lists of integers, or lists of such lists, as tuples; None stays None."""
    if kept is None:
        return None
    if not isinstance(kept, list) or not all(type(k) in (int, list) for k in kept):
        raise TypeError(f"kept units are lists of whole numbers, not {kept!r}")
    return tuple(_tupled(k) if isinstance(k, list) else k for k in kept)


def _gives(gives: Any) -> Gives:
    return tuple(gives) if isinstance(gives, list) else gives
