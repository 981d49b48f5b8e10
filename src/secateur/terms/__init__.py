"""Types for tensor dimensions: terms over axes, and their unification.

    term := Axis(n)               n units that live and die one by one
          | PerUnit(n, outer)     an axis whose n units are chosen anew for every unit of `outer`; the counts are equal
          | Case(selector, axes)  for each unit of the axis `selector` another axis; the counts are equal
          | Cat(term, ...)        laid end to end
          | Product(term, ...)    row-major, outer first

An axis that turns out to have parts is *bound* to a term over fresh axes, everywhere at once; `find` reads through
bindings. Every binding removes one free axis, so unification ends. Where two terms have no common refinement both
are frozen with a reason: nothing here ever guesses, and nothing here knows what a tensor is.

Normal form (kept by `cat` and `product`): no Cat directly in a Cat, no Product directly in a Product, no empty part
of a Cat, no factor of size one, at least two parts; a Case behind its selector is written out as a Cat. The term of
size one is `ONE`.
"""

from secateur.terms.term import (
    CHANNEL,
    EXPERT,
    HEAD,
    HEAD_DIM,
    KINDS,
    ONE,
    Axis,
    Case,
    Cat,
    Kept,
    PerUnit,
    Product,
    Reason,
    Term,
    axes,
    cat,
    factors,
    find,
    in_case,
    product,
    same,
)

# isort: split
from secateur.terms.choices import mingle, pick
from secateur.terms.marks import collapse, freeze, keep_at_least, keep_multiple, mark_inexact, mark_kind, reason
from secateur.terms.positions import kept_size, positions, size
from secateur.terms.sight import loose, places
from secateur.terms.unification import cut, factor, merge, merged, reshape, settle, unify

__all__ = [
    "CHANNEL",
    "EXPERT",
    "HEAD",
    "HEAD_DIM",
    "KINDS",
    "ONE",
    "Axis",
    "Case",
    "Cat",
    "Kept",
    "PerUnit",
    "Product",
    "Reason",
    "Term",
    "axes",
    "cat",
    "collapse",
    "cut",
    "factor",
    "factors",
    "find",
    "freeze",
    "in_case",
    "keep_at_least",
    "keep_multiple",
    "kept_size",
    "loose",
    "mark_inexact",
    "mark_kind",
    "merge",
    "merged",
    "mingle",
    "pick",
    "places",
    "positions",
    "product",
    "reason",
    "reshape",
    "same",
    "settle",
    "size",
    "unify",
]
