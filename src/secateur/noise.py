"""Random numbers that do not depend on a cut: drawn for every unit of the original, of which a run takes its own."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import torch

from .terms import Term, find
from .units import Units

# Ops that overwrite their first argument, whatever it holds.
FILLS = frozenset(
    f"aten::{name}_" for name in "normal uniform bernoulli exponential geometric cauchy log_normal random".split()
)
LIKE = frozenset({"aten::rand_like", "aten::randn_like", "aten::randint_like"})
SIZED = frozenset({"aten::rand", "aten::randn", "aten::randint"})
DRAWN = FILLS | LIKE | {"aten::native_dropout", "aten::bernoulli"}


class NotDrawn(Exception):
    """An op whose random numbers depend on values, so that a cut model draws others."""


def drawn(func: Any, args: Sequence[Any], kwargs: dict[str, Any], dims: Sequence[Term], units: Units, at: Any) -> Any:
    """What a random op returns, from a generator that starts anew for this call `at`. Raises `NotDrawn`."""
    torch.manual_seed(zlib.crc32(repr(at).encode()))
    name, rest = func._schema.name, args[1:]
    if name in SIZED:
        at_size = next(i for i, value in enumerate(args) if isinstance(value, (list, tuple)))
        return _own(func(*args[:at_size], _whole(dims), *args[at_size + 1 :], **kwargs), dims, units)
    if any(isinstance(value, torch.Tensor) for value in rest) or name not in DRAWN:
        if any(map(units.moves, dims)):
            raise NotDrawn(f"{name} draws random numbers that depend on values")
        return func(*args, **kwargs)
    whole = args[0].new_ones(_whole(dims))
    if name in FILLS:
        return args[0].copy_(_own(func(whole, *rest, **kwargs), dims, units))
    if name in LIKE:
        return _own(func(whole, *rest, **kwargs), dims, units)
    if name == "aten::bernoulli":
        return (_own(torch.rand_like(whole), dims, units) < args[0]).to(args[0].dtype)
    scaled, mask = (_own(one, dims, units) for one in func(whole, *rest, **kwargs))
    return args[0] * scaled, mask


def _whole(dims: Sequence[Term]) -> list[int]:
    return [find(term).n for term in dims]


def _own(whole: torch.Tensor, dims: Sequence[Term], units: Units) -> torch.Tensor:
    """The random numbers of the units that a run holds, in its order."""
    for dim, term in enumerate(dims):
        if units.moves(term):
            whole = whole.index_select(dim, torch.tensor(units.sources(term), device=whole.device))
    return whole
