"""The entries that costs are computed from: the MACs of an op, and a piece of memory that a call allocates."""

from __future__ import annotations

from dataclasses import dataclass

from secateur.terms import Term


@dataclass(frozen=True, slots=True)
class MacsTerm:
    """Multiply-adds of `layer`: `coefficient` times the product of the sizes of the terms."""

    layer: str
    coefficient: int
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Storage:
    """Memory that a call allocates, in bytes: `coefficient` times the product of the sizes of the terms.

    `gone` is the number of storages that had been allocated when this one was freed.
    """

    coefficient: int
    terms: tuple[Term, ...]
    gone: int
