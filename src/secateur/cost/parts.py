"""TODO."""

from __future__ import annotations

from dataclasses import dataclass

from secateur.terms import Term


@dataclass(frozen=True, slots=True)
class MacsTerm:
    """`coefficient` times the sizes of the terms multiply-adds, spent by `layer`."""

    layer: str
    coefficient: int
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Storage:
    """`coefficient` times the sizes of the terms bytes that a call makes. `gone`: how many were made before it went."""

    coefficient: int
    terms: tuple[Term, ...]
    gone: int
