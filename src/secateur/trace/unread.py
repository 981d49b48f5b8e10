"""Integers that no call read, and what they are nevertheless.

An attribute such as `num_key_value_groups` describes an axis, but only some branch of `forward` looks at it. For a model
of Hugging Face the constructor is asked what it makes of the config: `heads // kv_heads`. What a module's own tensors, and
integers that were read, are made of tells these numbers of the config, for this module alone, since layers may be cut
differently. An attribute that follows from them follows the cut; where they contradict each other, or say too little, it
is left, and the report names it.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from torch import nn

from ..bypass import inside
from ..errors import InputError
from .algebra import Opaque, Ratio
from .constructing import Built, is_pretrained
from .sizes import Attribute, Dim, Expr, Ledger, leaves
from .solve import Solver
from .staging import Stage


@dataclass(frozen=True, slots=True)
class Fact:
    """In a module, something of which the constructor makes `made` of the config."""

    module: str
    thing: Dim | Attribute
    made: Expr


def read_in(ledger: Ledger) -> set[Attribute]:
    """The attributes of which calls say what they are, or whose value they used; a comparison does not say it."""
    exprs = [side for one in ledger.equations for side in (one.left, one.right)] + [one.expr for one in ledger.escapes]
    return {leaf for expr in exprs for leaf in leaves(expr) if isinstance(leaf, Attribute)}


def facts_of(model: nn.Module, unread: Collection[Attribute]) -> list[Fact]:
    """What the constructor says of a model, while the stand-ins of a trace are in; nothing where it cannot be asked."""
    if not unread or not is_pretrained(model):
        return []
    try:
        built = Built.of(model, copy.deepcopy(model.config))
    except InputError:
        return []
    return [Fact(*fact) for fact in built.facts(model)]


def follow(solver: Solver, facts: Iterable[Fact], unread: Collection[Attribute], stage: Stage) -> tuple[Attribute, ...]:
    """Define those of the unread attributes that facts determine. Gives the others, of which nothing is known."""
    known = list(facts)
    made = {fact.thing: fact.made for fact in known if isinstance(fact.thing, Attribute)}
    config = {leaf for fact in known for leaf in leaves(fact.made)}
    left = []
    for attribute in unread:
        expr = made.get(attribute)
        if expr is None:
            left += [attribute] if attribute not in config and not (made and "." in attribute.name) else []
        elif any(True for _ in leaves(expr)) and not _follows(solver, attribute, expr, known, config, unread):
            left.append(attribute)
    return tuple(a for a in left if stage.attributes[a] > 1)


def _follows(
    solver: Solver,
    attribute: Attribute,
    expr: Expr,
    facts: Iterable[Fact],
    config: set[Dim | Attribute],
    unread: Collection[Attribute],
) -> bool:
    here = [f for f in facts if not attribute.module or inside(f.module, {attribute.module})]
    own = [f for f in here if isinstance(f.thing, Dim) or f.thing not in unread]
    local = copy.copy(solver)
    outer: dict[Attribute, Ratio] = {a: r for a, r in solver.solution.attributes.items() if a not in config}
    local.solution = replace(solver.solution, attributes=outer)
    for _ in range(3):
        for fact in own:
            _define(local, fact)
    asked = set(leaves(expr))
    if not asked <= local.solution.attributes.keys():
        return asked.isdisjoint(leaf for f in own for leaf in leaves(f.made))  # not of sizes
    if not all(_agrees(local, fact) for fact in own if not asked.isdisjoint(leaves(fact.made))):
        return False
    try:
        solver.solution.attributes[attribute] = local.ratio(expr)
    except Opaque:
        return False
    return True


def _define(local: Solver, fact: Fact) -> None:
    unknown = [n for n in dict.fromkeys(leaves(fact.made)) if n not in local.solution.attributes]
    if len(unknown) == 1 and isinstance(unknown[0], Attribute):
        (number,) = unknown
        try:
            solved = local.isolate(fact.made, number, local.ratio(fact.thing))
        except Opaque:
            return
        if solved is not None:
            local.solution.attributes[number] = solved


def _agrees(local: Solver, fact: Fact) -> bool:
    try:
        return not local.reduced(local.ratio(fact.made) - local.ratio(fact.thing)).over
    except (Opaque, KeyError):
        return False


__all__ = ["Fact", "facts_of", "follow", "read_in"]
