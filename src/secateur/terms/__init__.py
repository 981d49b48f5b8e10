"""Types for tensor dimensions: terms over axes, and their unification.

    term := Axis(n)               n units, each of which can be kept or removed
          | PerUnit(n, outer)     an axis whose n units are chosen separately for every unit of `outer`, equally many
          | Case(selector, terms) a different term for each unit of the axis `selector`; equally many units are kept
          | Cat(term, ...)        the concatenation of terms
          | Product(term, ...)    the row-major product of terms, outermost first

An axis that turns out to have parts is *bound* to a term over new axes, which replaces it everywhere; `find` follows
these bindings. Every binding removes one free axis, so unification terminates. Two terms without a common refinement
are both frozen, with a reason: unification never guesses.

The functions `cat` and `product` keep terms in normal form: no Cat directly in a Cat, no Product directly in a Product,
no empty part of a Cat, no factor of size one, and at least two parts. A Case that follows its selector is written as a
Cat. The term of size one is `ONE`.

This package may import only `secateur.errors`, and does not use torch. A new way in which dimensions relate needs
either a function over these terms (see `reshape`) or, rarely, a new kind of term, which `unification`, `positions` and
`sight` must then handle.
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
    sized,
)

# isort: split
from secateur.terms.choices import mingle, pick
from secateur.terms.marks import collapse, freeze, keep_at_least, keep_multiple, mark_inexact, mark_kind, reason
from secateur.terms.positions import alike, kept_size, positions, size
from secateur.terms.reshaping import reshape
from secateur.terms.sight import loose, places
from secateur.terms.unification import cut, factor, grain, merge, merged, settle, unify

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
    "alike",
    "axes",
    "cat",
    "collapse",
    "cut",
    "factor",
    "factors",
    "find",
    "freeze",
    "grain",
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
    "sized",
    "unify",
]
