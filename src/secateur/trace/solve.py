"""Solves the size equations of a trace, once for all plans.

A trace collects equations between sizes (`SizeEquation`), comparisons (`SizeGuard`) and values that escaped (`Escape`).
They are turned, in this order, into

1. definitions of attributes: `attn.num_heads` is the size of that axis in every plan;
2. inexact axes: the value of `C // heads` was used in arithmetic, so the counts it depends on must not change;
3. constraints: two proportional counts are *tied* (they keep the same share of their units); if a tie is not enough,
   the axes are frozen, with the source line that requires the equation.

A later tie or freeze only restricts the plans for which earlier equations hold, so each equation is processed once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from secateur.graph.algebra import Monomial, Opaque, Poly, Ratio, balanced
from secateur.graph.sizes import Arithmetic, Attribute, Dim, Expr, SizeEquation, SizeGuard, evaluate, leaves
from secateur.terms import Axis, Case, Cat, Term, find
from secateur.trace.tracked_ints import Escape, Ledger

NOT_PRUNABLE = "its size is used in a computation: {}"


@dataclass
class Tie:
    """Axes that keep the same share of their units. `frozen`: why none of them can lose units, or None."""

    members: list[Axis]
    frozen: str | None = None

    @property
    def steps(self) -> int:
        """The number of equal steps from no units to all units that every member allows."""
        return math.gcd(*(axis.n for axis in self.members))


@dataclass
class Solution:
    """What holds for every plan: ties between axes, attributes as functions of counts, guards to check."""

    ties: dict[Axis, Tie] = field(default_factory=dict)
    attributes: dict[Attribute, Ratio] = field(default_factory=dict)
    guards: list[SizeGuard] = field(default_factory=list)
    unsafe: dict[Axis, str] = field(default_factory=dict)


class Solver:
    """Solves one ledger. `candidates` are the axes that may lose units; all other counts are constants.

    Polynomials are over the counts of axes; `reduced` writes the counts of tied axes as multiples of one of them.
    """

    def __init__(self, candidates: Iterable[Axis], attributes: Mapping[Attribute, int]):
        self.solution = Solution(ties={axis: Tie([axis]) for axis in candidates})
        self.old = attributes
        self.known: dict[object, Ratio] = {}  # value of an expression -> the size it equals

    def run(self, ledger: Ledger) -> Solution:
        """Solve everything; see the module's docstring for the order."""
        equations = [e for e in ledger.equations if self._varies(e.left) or self._varies(e.right)]
        equations += [SizeEquation(g.left, g.right, g.where) for g in ledger.guards if is_equation(g)]
        floors = [
            SizeGuard("==", e.left, e.right, True, e.where) for e in equations if _floors(e.left) or _floors(e.right)
        ]
        for _ in range(2):  # an attribute may be defined by means of others
            equations = [equation for equation in equations if not self._define(equation)]
        equations = [equation for equation in equations if not self._define(equation, several=True)]
        for equation in equations:
            self._remember(equation)
        for escaped in ledger.escapes:
            self._escape(escaped)
        for equation in sorted(equations, key=self._difficulty):
            self._hold(equation)
        guards = [guard for guard in ledger.guards if not is_equation(guard)]
        self.solution.guards = [
            *(guard for guard in guards if self._open(guard)),
            *(guard for guard in floors if self._variables(guard.left, guard.right)),
        ]
        return self.solution

    def _free(self, axis: Axis) -> bool:
        tie = self.solution.ties.get(axis)
        return tie is not None and tie.frozen is None and axis not in self.solution.unsafe

    def reduced(self, ratio: Ratio) -> Ratio:
        """Return the ratio in terms of ties: the first member is the one variable for all proportional counts."""
        return Ratio.of(self._reduced(ratio.over), self._reduced(ratio.under))

    def _reduced(self, poly: Poly) -> Poly:
        total = Poly()
        for monomial, coefficient in poly.items():
            term = Poly.constant(coefficient)
            for var in monomial:
                term = term * self._steps(var)
            total = total + term
        return total

    def _steps(self, axis: Axis) -> Poly:
        tie = self.solution.ties[axis]
        return Poly.variable(tie.members[0], axis.n // tie.steps) if self._free(axis) else Poly.constant(axis.n)

    def term(self, term: Term) -> Poly:
        """Return the size of a term as a polynomial over the counts of axes."""
        term = find(term)
        if isinstance(term, Case):
            return self.term(term.cases[0])
        if isinstance(term, Axis):
            return Poly.variable(term) if self._free(term) else Poly.constant(term.n)
        if not term.parts:  # an empty size, such as the boxes that were found
            return Poly()
        parts = [self.term(part) for part in term.parts]
        total = parts[0]
        for part in parts[1:]:
            total = total + part if isinstance(term, Cat) else total * part
        return total

    def ratio(self, expr: Expr) -> Ratio:
        """Return an expression as a ratio of polynomials; undefined attributes count as constants."""
        if isinstance(expr, int):
            return Ratio.of(Poly.constant(int.__index__(expr)))
        if isinstance(expr, Dim):
            return Ratio.of(self.term(expr.term))
        if isinstance(expr, Attribute):
            defined = self.solution.attributes.get(expr)
            return defined if defined is not None else Ratio.of(Poly.constant(self.old[expr]))
        left, right = self.ratio(expr.left), self.ratio(expr.right)
        return self._combine(expr.op, left, right)

    def _combine(self, op: str, left: Ratio, right: Ratio) -> Ratio:
        if op == "+":
            return left + right
        if op == "-":
            return left - right
        if op == "*":
            return left * right
        if not left.variables and not right.variables:
            a, b = _old(left), _old(right)
            return Ratio.of(Poly.constant(a // b if op == "//" else a % b))
        quotient = left / right
        if _old(left) % _old(right):
            raise Opaque("a division with a remainder")
        if op == "//":
            return quotient
        if quotient.under.variables or any(c % quotient.under[()] for c in quotient.over.values()):
            raise Opaque("a remainder that may change")
        return Ratio.of(Poly())

    def _varies(self, expr: Expr) -> bool:
        return any(isinstance(leaf, Attribute) or self.term(leaf.term).variables for leaf in leaves(expr))

    def _define(self, equation: SizeEquation, *, several: bool = False) -> bool:
        """Define an attribute by an equation in which it is the only unknown one; return whether one was defined.

        With `several` unknown ones, the largest is defined, because small ones tend to count things other than units;
        those become constants.
        """
        for side, other in ((equation.left, equation.right), (equation.right, equation.left)):
            unknown = {leaf for leaf in leaves(side) if self._unknown(leaf)}
            if not unknown or not self._defined(other) or (len(unknown) > 1 and not several):
                continue
            attribute = max(unknown, key=lambda leaf: (self.old[leaf], str(leaf)))
            try:
                solved = self.isolate(side, attribute, self.ratio(other))
            except Opaque:
                continue
            if solved is not None:
                self.solution.attributes[attribute] = solved
                for small in unknown - {attribute}:
                    self.solution.attributes[small] = Ratio.of(Poly.constant(self.old[small]))
                return True
        return False

    def _defined(self, expr: Expr) -> bool:
        return not any(map(self._unknown, leaves(expr)))

    def _unknown(self, leaf: Dim | Attribute) -> TypeGuard[Attribute]:
        return isinstance(leaf, Attribute) and leaf not in self.solution.attributes

    def isolate(self, side: Expr, unknown: Attribute, value: Ratio) -> Ratio | None:
        """Solve `side == value` for the one unknown in it, by inverting one operation after another."""
        while isinstance(side, Arithmetic):
            in_left = unknown in set(leaves(side.left))
            if in_left and unknown in set(leaves(side.right)):
                return None
            inner, other = (side.left, side.right) if in_left else (side.right, side.left)
            rest = self.ratio(other)
            if side.op == "+":
                value = value - rest
            elif side.op == "*":
                value = value / rest
            elif side.op == "-":
                value = value + rest if in_left else rest - value
            elif side.op == "//":
                if not in_left:
                    value = rest / value
                elif _old(value * rest) == _value(side.left, self.old):
                    value = value * rest
                else:
                    return None
            else:
                return None
            side = inner
        return value if _old(value) == self.old[unknown] else None

    def _remember(self, equation: SizeEquation) -> None:
        for side, other in ((equation.left, equation.right), (equation.right, equation.left)):
            if isinstance(side, Arithmetic) and isinstance(other, (Dim, Attribute)):
                try:
                    self.known[self.ratio(side).key] = self.ratio(other)
                except Opaque:
                    continue

    def _escape(self, escaped: Escape) -> None:
        try:
            value = self.ratio(escaped.expr)
            variables = self.known.get(value.key, value).variables
        except Opaque:
            variables = self._variables(escaped.expr)
        for axis in variables:
            self.solution.unsafe.setdefault(axis, NOT_PRUNABLE.format(escaped.where))

    def _variables(self, *exprs: Expr) -> set[Axis]:
        return {axis for expr in exprs for leaf in leaves(expr) for axis in self.ratio(leaf).variables}

    def _difficulty(self, equation: SizeEquation) -> int:
        try:
            left, right = balanced(*map(self.reduced, (self.ratio(equation.left), self.ratio(equation.right))))
        except Opaque:
            return 0
        return len(left.variables) + len(right.variables)

    def _hold(self, equation: SizeEquation) -> None:
        try:
            left, right = balanced(*map(self.reduced, (self.ratio(equation.left), self.ratio(equation.right))))
        except Opaque:
            return self._freeze(self._variables(equation.left, equation.right), equation.where)
        if left or right:
            self._balance(left, right, equation.where)

    def _balance(self, left: Poly, right: Poly, where: str) -> None:
        """Tie or freeze axes so that two polynomials without common terms are equal for every plan.

        Sums of counts (a + b == c) stay equal if all of them keep the same share.
        """
        if len(left) == len(right) == 1:
            (x,), (y,) = left, right
            self._proportional(x, y, where)
        elif pairs := self._paired(left, right):
            for a, b in pairs:
                self._proportional((a,), (b,), where)
        elif summands := self._summands(left) | self._summands(right):
            self._freeze(summands, where)
            self._balance(*balanced(*map(self.reduced, (Ratio.of(left), Ratio.of(right)))), where)
        elif all(len(monomial) == 1 for monomial in (*left, *right)):
            first, *rest = sorted(left.variables | right.variables, key=lambda axis: axis.serial)
            for axis in rest:
                self._tie(first, axis, where)
        else:
            self._freeze(left.variables | right.variables, where)

    @staticmethod
    def _summands(poly: Poly) -> set[Axis]:
        """Return a and b of `(a + b) * c`: if they are fixed, c alone can change proportionally to something else."""
        shared = set.intersection(*map(set, poly)) if poly else set()
        return poly.variables - shared if shared and len(poly) > 1 else set()

    def _proportional(self, left: Monomial, right: Monomial, where: str) -> None:
        """Tie one count on each side, with the finest step possible, and freeze the others."""
        pairs = [(x, y) for x in left for y in right if left.count(x) == right.count(y)]
        if not pairs:
            return self._freeze({*left, *right}, where)
        x, y = max(pairs, key=lambda pair: self._gcd(*pair))
        self._freeze({*left, *right} - {x, y}, where)
        self._tie(x, y, where)

    def _gcd(self, x: Axis, y: Axis) -> int:
        return math.gcd(*(axis.n for var in (x, y) for axis in self.solution.ties[var].members))

    def _paired(self, left: Poly, right: Poly) -> list[tuple[Axis, Axis]] | None:
        """Return the pairs of equal counts in sums of equally many: (a + b == c + d) by a == c, b == d; else None."""
        sides = []
        for poly in (left, right):
            if any(len(m) != 1 or c != next(iter(poly.values())) for m, c in poly.items()):
                return None
            sides.append(sorted((m[0] for m in poly), key=self._count))
        pairs = list(zip(*sides, strict=True)) if len(sides[0]) == len(sides[1]) else []
        return pairs if pairs and all(self._count(a) == self._count(b) for a, b in pairs) else None

    def _count(self, var: Axis) -> int:
        return self.solution.ties[var].steps

    def _tie(self, x: Axis, y: Axis, where: str) -> None:
        a, b = self.solution.ties[x], self.solution.ties[y]
        if a is b:
            return
        small, large = sorted((a, b), key=lambda tie: len(tie.members))
        large.members += small.members
        for axis in small.members:
            self.solution.ties[axis] = large
        if large.steps == 1:
            large.frozen = f"tied to counts without a common step at {where}"

    def _freeze(self, variables: Iterable[Axis], where: str) -> None:
        for var in variables:
            tie = self.solution.ties[var]
            tie.frozen = tie.frozen or f"no plan can satisfy the sizes at {where}"

    def _open(self, guard: SizeGuard) -> bool:
        """Return whether the outcome of a comparison may depend on the plan."""
        try:
            return bool(self.reduced(self.ratio(guard.left) - self.ratio(guard.right)).variables)
        except Opaque:  # the numbers of a plan can be compared
            return bool(self._variables(guard.left, guard.right))


def is_equation(guard: SizeGuard) -> bool:
    """Return whether a comparison is an equation. One with a remainder is not: many plans satisfy it."""
    equal = (guard.op, guard.outcome) in (("==", True), ("!=", False))
    return equal and not (_has_remainder(guard.left) or _has_remainder(guard.right))


def _has_remainder(expr: Expr) -> bool:
    return isinstance(expr, Arithmetic) and (expr.op == "%" or _has_remainder(expr.left) or _has_remainder(expr.right))


def _floors(expr: Expr, *, inside: bool = False) -> bool:
    """Return whether a quotient is used in further arithmetic: ratios are exact, but plans may round it."""
    if not isinstance(expr, Arithmetic):
        return False
    return (inside and expr.op in ("//", "%")) or _floors(expr.left, inside=True) or _floors(expr.right, inside=True)


def _old(ratio: Ratio) -> int:
    """Return the value for the unpruned model."""
    return ratio.at(lambda axis: axis.n)


def _value(expr: Expr, attributes: Mapping[Attribute, int]) -> int:
    return evaluate(expr, lambda leaf: attributes[leaf] if isinstance(leaf, Attribute) else leaf.term.n)
