"""Terms of a plan as JSON codes, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from secateur.plan.parts import Code
from secateur.terms import Axis, Cat, Product, Term


def code_of(code: Any) -> Code:
    """Return a code as it comes from JSON with tuples in place of lists."""
    if isinstance(code, Mapping):
        ((kind, parts),) = code.items()
        return {kind: tuple(map(code_of, parts))}
    return code


def decoded(code: Code, made: Mapping[str, Axis]) -> Term:
    """Return the term that a code stands for. made: the axes by name."""
    if isinstance(code, str):
        return made[code]
    if isinstance(code, int):
        return Axis(code)
    ((kind, parts),) = code.items()
    terms = tuple(decoded(part, made) for part in parts)
    if kind not in _KINDS:
        raise ValueError(f"a term is a cat or a product, not a {kind!r}")
    return _KINDS[kind](terms)


_KINDS: dict[str, type[Cat] | type[Product]] = {"cat": Cat, "product": Product}


def encoded(term: Term, name_of: Callable[[Axis], str | int]) -> Code:
    """Return a term as JSON data; `name_of` returns the name of an axis, or its size if all of it stays."""
    if isinstance(term, Axis):
        return name_of(term)
    kind = "cat" if isinstance(term, Cat) else "product"
    return {kind: tuple(encoded(part, name_of) for part in term.parts)}
