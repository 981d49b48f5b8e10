"""Random numbers that do not depend on a cut: drawn for every unit of the original, of which a run takes its own."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from secateur.proof.units import Units
from secateur.terms import Term, find

# Ops that overwrite their first argument, whatever it holds.
FILLS = frozenset(
    f"aten::{name}_" for name in "normal uniform bernoulli exponential geometric cauchy log_normal random".split()
)
LIKE = frozenset({"aten::rand_like", "aten::randn_like"})
SIZED = frozenset({"aten::rand", "aten::randn", "aten::randint"})


class NotDrawn(Exception):
    """An op whose random numbers depend on values, so that a cut model draws others."""


def drawn(func: Any, args: Sequence[Any], kwargs: dict[str, Any], dims: Sequence[Term], units: Units, at: Any) -> Any:
    """What a random op returns, from a generator that starts anew for this call `at`. Raises `NotDrawn`."""
    torch.manual_seed(zlib.crc32(repr(at).encode()))
    noise = Noise(dims, units)
    name, of_values = func._schema.name, any(isinstance(value, torch.Tensor) for value in args[1:])
    if name in SIZED:
        at_size = next(i for i, value in enumerate(args) if isinstance(value, (list, tuple)))
        return noise.own(func(*args[:at_size], noise.sizes, *args[at_size + 1 :], **kwargs))
    if name in FILLS and not of_values:
        return args[0].copy_(noise.own(func(noise.ones(args[0]), *args[1:], **kwargs)))
    if name in LIKE:
        return noise.own(func(noise.ones(args[0]), *args[1:], **kwargs))
    if name in OF_VALUES:
        return OF_VALUES[name](noise, *args)
    if any(map(units.moves, dims)) and not _is_plain(func, args):
        raise NotDrawn(f"{name} draws random numbers that depend on values")
    return func(*args, **kwargs)


def _is_plain(func: Any, args: Sequence[Any]) -> bool:
    """Whether an op draws nothing: outside training it does not."""
    names = [argument.name for argument in func._schema.arguments]
    return "training" in names and not any(args[names.index("training") :][:1])


@dataclass(frozen=True)
class Noise:
    """Random numbers for a result with these dimensions, of which a run takes those of the units that it holds."""

    dims: Sequence[Term]
    units: Units

    @property
    def sizes(self) -> list[int]:
        """The sizes in the original."""
        return [find(term).n for term in self.dims]

    def ones(self, like: torch.Tensor) -> torch.Tensor:
        """Ones of the original's sizes."""
        return like.new_ones(self.sizes)

    def own(self, whole: torch.Tensor) -> torch.Tensor:
        """Of random numbers for all units, those of the units that the run holds, in its order."""
        for dim, term in enumerate(self.dims):
            if self.units.moves(term):
                whole = whole.index_select(dim, torch.tensor(self.units.sources(term), device=whole.device))
        return whole

    def coins(self, chance: torch.Tensor) -> torch.Tensor:
        """Ones and zeros, by the chance of a one."""
        return (self.own(torch.rand_like(self.ones(chance))) < chance).to(chance.dtype)

    def normal(self, mean: Any, deviation: Any) -> torch.Tensor:
        """Normal numbers; one of the two may be a number."""
        like = mean if isinstance(mean, torch.Tensor) else deviation
        return mean + deviation * self.own(torch.randn_like(self.ones(like)))

    def dropout(self, x: torch.Tensor, *options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Dropout and its mask."""
        scaled, mask = map(self.own, torch.ops.aten.native_dropout(self.ones(x), *options))
        return x * scaled, mask


# How ops draw whose random numbers depend on values.
OF_VALUES: dict[str, Callable[..., Any]] = {
    "aten::native_dropout": Noise.dropout,
    "aten::bernoulli": lambda noise, x, p=None: noise.coins(x if p is None else torch.zeros_like(x) + p),
    "aten::bernoulli_": lambda noise, x, p: x.copy_(noise.coins(p.expand(x.shape))),
    "aten::normal": Noise.normal,
}
