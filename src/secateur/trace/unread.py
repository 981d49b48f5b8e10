"""Derives the integer attributes that no call read, so that they can be updated after pruning.

An attribute such as `num_key_value_groups` describes an axis, but only some branch of `forward` reads it. For a Hugging
Face model, the constructor shows how it is computed from the config: `heads // kv_heads`. The module's tensors, and
integers that were read, determine these numbers of the config, for this module only, because layers may be pruned
differently. An attribute that follows from them is updated; if they contradict each other or do not suffice, it is left
unchanged, and the report names it.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace

from torch import nn

from secateur.anatomy.building import config_of, is_pretrained
from secateur.base.names import inside
from secateur.errors import InputError
from secateur.graph.algebra import Opaque
from secateur.graph.sizes import Arithmetic, Attribute, Dim, Expr, leaves
from secateur.trace.constructing import Built, offer_head_dims
from secateur.trace.solve import Solver, is_equation
from secateur.trace.staging import Fact, StandIns
from secateur.trace.tracked_ints import Ledger

ROUNDS = 3  # of deriving one number from others


def read_in(ledger: Ledger) -> set[Attribute]:
    """Return the attributes in equations or escapes, which determine their values; of comparisons, equalities do."""
    equalities = [*ledger.equations, *filter(is_equation, ledger.guards)]
    exprs = [side for one in equalities for side in (one.left, one.right)] + [one.expr for one in ledger.escapes]
    return {leaf for expr in exprs for leaf in leaves(expr) if isinstance(leaf, Attribute)}


def note_facts(model: nn.Module, stage: StandIns, unread: Collection[Attribute]) -> None:
    """Record the facts of a model's constructor, if it can be traced; the stand-ins must be in place."""
    if not unread or not is_pretrained(model):
        return
    config = copy.deepcopy(config_of(model))
    offered = offer_head_dims(config)
    with suppress(InputError):
        stage.facts += [Fact(*fact) for fact in Built.of(model, config).facts(model)]
        stage.offered.update(offered)


def follow(solver: Solver, stage: StandIns) -> tuple[Attribute, ...]:
    """Define the unread attributes that facts determine. Return the others, whose meaning is unknown."""
    made = {fact.thing: fact.made for fact in stage.facts if isinstance(fact.thing, Attribute)}
    config = {leaf for fact in stage.facts for leaf in leaves(fact.made)}
    left = []
    for attribute in stage.unread:
        expr = made.get(attribute)
        if expr is None:
            left += [attribute] if attribute not in config and not (made and "." in attribute.name) else []
        elif any(True for _ in leaves(expr)) and not _Local(solver, stage, attribute, config).follows(expr):
            left.append(attribute)
    return tuple(a for a in left if stage.attributes[a] > 1)


class _Local:
    """The numbers of a config as seen by one module, from which its attribute may follow."""

    def __init__(self, solver: Solver, stage: StandIns, attribute: Attribute, config: Collection[Dim | Attribute]):
        here = [f for f in stage.facts if not attribute.module or inside(f.module, {attribute.module})]
        facts = [f for f in here if isinstance(f.thing, Dim) or f.thing not in stage.unread]
        own = [f for f in facts if isinstance(f.thing, Attribute) and f.thing.module == attribute.module]
        computed = [f for f in own if isinstance(f.made, Arithmetic)]
        given = [f for f in own if f not in computed]
        self._kept = {f.made: f.thing for f in computed}
        self._facts = [replace(f, made=self._in_own_terms(f.made)) for f in facts if f not in own]
        self._given = {leaf for f in given for leaf in leaves(f.made)}
        self._derived_from: set[Dim | Attribute] = set()
        self._outer, self._attribute, self._solver = solver.solution.attributes, attribute, copy.copy(solver)
        self._known = {a: ratio for a, ratio in self._outer.items() if a not in config}
        self._solver.solution = replace(solver.solution, attributes=self._known)
        self._solver.old = {**stage.attributes, **stage.offered}
        for fact in [*given, *self._facts * ROUNDS]:
            self._define(fact)
        for fact in computed:
            self._derived_from |= {*leaves(fact.made)} if self._define(fact) else set()
        for fact in self._facts * ROUNDS:
            self._define(fact)

    def _in_own_terms(self, expr: Expr) -> Expr:
        """Replace parts of an expression by attributes of the module: `hidden // heads` may differ from `head_dim`."""
        if expr in self._kept:
            return self._kept[expr]
        if isinstance(expr, Arithmetic):
            return Arithmetic(expr.op, self._in_own_terms(expr.left), self._in_own_terms(expr.right))
        return expr

    def follows(self, expr: Expr) -> bool:
        """Return whether an expression over the config is known here; if so, define the attribute."""
        expr = self._in_own_terms(expr)
        asked = set(leaves(expr))
        if not asked <= self._known.keys():
            return asked.isdisjoint(leaf for f in self._facts for leaf in leaves(f.made))  # not of sizes
        checked = asked | (self._derived_from - self._given)
        about = [fact for fact in self._facts if not checked.isdisjoint(leaves(fact.made))]
        try:
            value = self._solver.ratio(expr)
        except Opaque:
            return False
        if all(map(self._agrees, about)):
            self._outer[self._attribute] = value
            return True
        return False

    def _define(self, fact: Fact) -> bool:
        """Define the number of the config that a fact determines, if exactly one is unknown."""
        unknown = [n for n in dict.fromkeys(leaves(fact.made)) if n not in self._known]
        if len(unknown) == 1 and isinstance(unknown[0], Attribute):
            with suppress(Opaque):
                solved = self._solver.isolate(fact.made, unknown[0], self._solver.ratio(fact.thing))
                if solved is not None:
                    self._known[unknown[0]] = solved
                    return True
        return False

    def _agrees(self, fact: Fact) -> bool:
        if not self._known.keys() >= set(leaves(fact.made)):
            return False
        try:
            made, here = self._solver.ratio(fact.made), self._solver.ratio(fact.thing)
            return not self._solver.reduced(made - here).over
        except Opaque:
            return False


__all__ = ["Fact", "follow", "note_facts", "read_in"]
