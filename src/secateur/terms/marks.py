"""Marks on the axes of a term: frozen, inexact, how few units may stay, and the kind of the units."""

from __future__ import annotations

import math
from collections.abc import Sequence

from secateur.terms.term import Case, Cat, PerUnit, Product, Reason, Term, axes, find


def reason(why: Reason) -> str:
    """Return a reason as a string."""
    return why if isinstance(why, str) else why()


def freeze(term: Term, why: Reason) -> None:
    """Mark every unit of a term as not prunable. An axis keeps its first reason."""
    for axis in axes(term):
        if axis.frozen is None:
            axis.frozen = reason(why)


def mark_inexact(term: Term, why: Reason, *, unsafe: bool) -> None:
    """Record that removing units of a term differs from setting them to zero, because a mean or variance is taken.

    `unsafe` marks larger differences than that of a mean or variance.
    """
    for axis in axes(term):
        if axis.frozen is None and (axis.inexact is None or (unsafe and not axis.unsafe)):
            axis.inexact, axis.unsafe = reason(why), unsafe


def keep_at_least(term: Term, count: int) -> None:
    """Require that every axis of the term keeps at least `count` units (or all, if it has fewer)."""
    for axis in axes(term):
        axis.least = max(axis.least, min(count, axis.n))


def keep_multiple(term: Term, of: int) -> None:
    """Require that the size of the term stays a multiple of `of`; in a product, that of the innermost factor."""
    term = find(term)
    if isinstance(term, Product):
        keep_multiple(term.parts[-1], of)
    elif isinstance(term, Cat):
        for part in term.parts:
            keep_multiple(part, of)
    else:
        for axis in axes(term):
            axis.multiple = math.lcm(axis.multiple, of)


def keep_equal(term: Term, cases: Sequence[Case]) -> None:
    """Record on every axis of the term that it is a part of these cases, whose sizes must stay equal."""
    for axis in axes(term):
        axis.within = tuple(dict.fromkeys((*axis.within, *cases)))


def mark_kind(term: Term, kind: str) -> None:
    """Set the kind of the units of a term. An axis keeps its first kind."""
    for axis in axes(term):
        axis.kind = axis.kind or kind


def collapse(term: Term) -> None:
    """Make every `PerUnit` in the term an ordinary axis, with the same units kept for every outer unit."""
    for axis in axes(term):
        if isinstance(axis, PerUnit):
            axis.outer = None
