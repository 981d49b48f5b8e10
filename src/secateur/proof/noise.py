"""Random numbers that do not depend on a cut: drawn for all units of the original, then selected for the kept ones."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from secateur.proof.units import Units
from secateur.terms import Term, find

# Ops that read only the shape and the dtype of their first argument.
BY_SHAPE = frozenset(
    f"aten::{name}_" for name in "normal uniform bernoulli exponential geometric cauchy log_normal random".split()
) | frozenset(f"aten::{name}" for name in "normal normal_functional rand_like randn_like randint_like".split())


class NotDrawn(Exception):
    """Raised for an op whose random numbers depend on values, so that a cut model draws others."""


def drawn(func: Any, args: Sequence[Any], kwargs: dict[str, Any], dims: Sequence[Term], units: Units, at: Any) -> Any:
    """Return the result of a random op, with the generator seeded for this call `at`. Raises `NotDrawn`."""
    torch.manual_seed(zlib.crc32(repr(at).encode()))
    given = {**dict(zip((a.name for a in func._schema.arguments), args, strict=False)), **kwargs}
    if "generator" in given:
        given["generator"] = None  # the state of the model's own would differ from run to run
    found = _made(func, given, Noise(dims, units))
    if found is NotImplemented:
        if any(map(units.moves, dims)) and not _is_plain(func, given):
            raise NotDrawn(f"{func._schema.name} draws random numbers that depend on values")
        return func(**given)
    written = given.get("self") if func._schema.name.endswith("_") else given.get("out")
    if written is None:
        return found
    if written is given.get("out") and written.shape != found.shape:
        written.resize_(found.shape)
    return written.copy_(found)


def _made(func: Any, given: dict[str, Any], noise: Noise) -> Any:
    """Return the random numbers; `NotImplemented` where they depend on values in an unknown way."""
    name = func._schema.name
    if given.get("out") is not None:
        given = {**given, "out": noise.ones(given["out"])}
    inputs = [key for key, value in given.items() if isinstance(value, torch.Tensor) and key != "out"]
    if "size" in given:
        return noise.own(func(**{**given, "size": noise.sizes}))
    if name in BY_SHAPE and inputs == ["self"]:
        return noise.own(func(**{**given, "self": noise.ones(given["self"])}))
    if name in OF_VALUES:
        return OF_VALUES[name](noise, **{key: v for key, v in given.items() if key not in ("generator", "out")})
    return NotImplemented


def _is_plain(func: Any, given: Mapping[str, Any]) -> bool:
    """Return whether an op draws no random numbers, because it does so only in training."""
    return any(argument.name == "training" for argument in func._schema.arguments) and not given.get("training")


@dataclass(frozen=True)
class Noise:
    """Random numbers for a result with these dimensions, for all units and for those that a run holds."""

    dims: Sequence[Term]
    units: Units

    @property
    def sizes(self) -> list[int]:
        """The sizes in the original."""
        return [find(term).n for term in self.dims]

    def ones(self, like: torch.Tensor) -> torch.Tensor:
        """Return ones of the original's sizes."""
        return like.new_ones(self.sizes)

    def own(self, whole: torch.Tensor) -> torch.Tensor:
        """Select from random numbers for all units those of the units that the run holds, in its order."""
        for dim, term in enumerate(self.dims):
            if self.units.moves(term):
                whole = whole.index_select(dim, torch.tensor(self.units.sources(term), device=whole.device))
        return whole

    def coins(self, chance: torch.Tensor) -> torch.Tensor:
        """Return ones and zeros, by the probability of a one."""
        return (self.own(torch.rand_like(self.ones(chance))) < chance).to(chance.dtype)

    def normal(self, mean: Any, std: Any = 1.0) -> torch.Tensor:
        """Return normal random numbers; one of `mean` and `std` may be a number."""
        like = mean if isinstance(mean, torch.Tensor) else std
        return mean + std * self.own(torch.randn_like(self.ones(like)))

    def dropout(self, input: Any, p: float, train: bool | None) -> Any:  # noqa: A002 - the name in aten
        """Return the input after dropout, and the mask."""
        scaled, mask = map(self.own, torch.ops.aten.native_dropout(self.ones(input), p, train))
        return input * scaled, mask


def _bernoulli(noise: Noise, self: torch.Tensor, p: Any = None) -> torch.Tensor:
    return noise.coins(self if p is None else torch.zeros_like(self) + p)


# Ops whose random numbers depend on values, with functions that draw them and take the arguments by name.
OF_VALUES: dict[str, Callable[..., Any]] = {
    "aten::native_dropout": Noise.dropout,
    "aten::bernoulli": _bernoulli,
    "aten::bernoulli_": _bernoulli,
    "aten::normal": Noise.normal,
}
