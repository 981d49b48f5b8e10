"""What is said of the axes of a term: frozen, inexact, how few may stay, what they are."""

from __future__ import annotations

import math

from secateur.terms.term import Cat, PerUnit, Product, Reason, Term, axes, find


def reason(why: Reason) -> str:
    """The text of a reason."""
    return why if isinstance(why, str) else why()


def freeze(term: Term, why: Reason) -> None:
    """Every unit of the term stays. The first reason is kept."""
    for axis in axes(term):
        if axis.frozen is None:
            axis.frozen = reason(why)


def mark_inexact(term: Term, why: Reason, *, unsafe: bool) -> None:
    """Dropping units changes the function beyond silencing them: by a mean or variance, or `unsafe`ly by more."""
    for axis in axes(term):
        if axis.frozen is None and (axis.inexact is None or (unsafe and not axis.unsafe)):
            axis.inexact, axis.unsafe = reason(why), unsafe


def keep_at_least(term: Term, count: int) -> None:
    """No axis of the term may fall below `count` units (or its size, if that is less)."""
    for axis in axes(term):
        axis.least = max(axis.least, min(count, axis.n))


def keep_multiple(term: Term, of: int) -> None:
    """The size of the term stays a multiple: of a product, the innermost factor does."""
    term = find(term)
    if isinstance(term, Product):
        keep_multiple(term.parts[-1], of)
    elif isinstance(term, Cat):
        for part in term.parts:
            keep_multiple(part, of)
    else:
        for axis in axes(term):
            axis.multiple = math.lcm(axis.multiple, of)


def mark_kind(term: Term, kind: str) -> None:
    """Say what the units of the term are. What was said first is kept."""
    for axis in axes(term):
        axis.kind = axis.kind or kind


def collapse(term: Term) -> None:
    """One choice for all: whatever in the term was chosen anew per outer unit no longer is."""
    for axis in axes(term):
        if isinstance(axis, PerUnit):
            axis.outer = None
