"""Ops that join two or more tensors, each tried with units folded into every dimension of every operand in turn.

An operand's dimension of n units is written as u units of a layer times p places of the input, outermost either way,
so that the units of one operand must find their partners inside a dimension of another. What the op gives is read unit
by unit, or summed, and the laws are checked on a cut of everything at random.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import secateur
from secateur.graph.graph import Graph

PLACES = 2  # what is folded together with units, of every dimension


@dataclass(frozen=True)
class Joined:
    """A call of an op, and the shapes of its operands; every dimension is an even number of at least 4, or stays."""

    call: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Fold:
    """Dimension `dim` of operand `operand` is units times places, or places times units."""

    operand: int
    dim: int
    outer: bool

    def __str__(self) -> str:
        return f"{self.operand}[{self.dim}]: {'units*places' if self.outer else 'places*units'}"


def folds(joined: Joined) -> list[Fold]:
    """Every dimension that can be folded, both ways."""
    return [
        Fold(operand, dim, outer)
        for operand, shape in enumerate(joined.shapes)
        for dim, n in enumerate(shape)
        if n % PLACES == 0 and n > PLACES
        for outer in (True, False)
    ]


class Net(nn.Module):
    """One op, its operands parameters, of which some dimensions are folded.

    With `shared` these are scaled by the same units, of one parameter. `change` is applied to each operand first.
    """

    def __init__(
        self,
        joined: Joined,
        folded: Sequence[Fold],
        *,
        shared: bool = False,
        change: Callable[[Tensor], Tensor] = torch.cos,
        summed: bool = False,
    ):
        super().__init__()
        self._call, self._folded, self._change, self._summed = joined.call, tuple(folded), change, summed
        generator = torch.Generator().manual_seed(0)
        for i, shape in enumerate(joined.shapes):
            sizes = list(shape)
            for fold in self._of(i):
                sizes[fold.dim] //= PLACES
            self.register_parameter(f"operand{i}", nn.Parameter(torch.randn(sizes, generator=generator)))
        self.count = len(joined.shapes)
        if shared:
            first = folded[0]
            units = joined.shapes[first.operand][first.dim] // PLACES
            self.shared = nn.Parameter(torch.randn(units, generator=generator))
        self.start = torch.rand(PLACES, generator=generator) + 0.5  # of one sign, or a norm's result sums to nothing
        for k, result in enumerate(self._results(self.start)):
            for dim, n in enumerate(result.shape):
                self.register_parameter(f"weight{k}_{dim}", nn.Parameter(torch.rand(n, generator=generator) + 0.5))

    def _of(self, operand: int) -> list[Fold]:
        return [fold for fold in self._folded if fold.operand == operand]

    def _operand(self, i: int, places: Tensor) -> Tensor:
        x = self._parameters[f"operand{i}"]
        assert x is not None
        for fold in self._of(i):
            if "shared" in self._parameters:
                x = x * self.shared.view(-1, *[1] * (x.dim() - fold.dim - 1))
        x = self._change(x)
        for fold in reversed(self._of(i)):
            wide = x.unsqueeze(fold.dim + 1 if fold.outer else fold.dim)
            here = fold.dim + 1 if fold.outer else fold.dim
            x = (wide * places.view(-1, *[1] * (wide.dim() - here - 1))).flatten(fold.dim, fold.dim + 1)
        return x

    def _results(self, places: Tensor) -> list[Tensor]:
        out = self._call(*(self._operand(i, places) for i in range(self.count)))
        return [leaf for leaf in pytree.tree_leaves(out) if isinstance(leaf, Tensor) and leaf.is_floating_point()]

    def forward(self, places: Tensor) -> Tensor:
        total = places.sum()
        for k, result in enumerate(self._results(places)):
            total = total + (result.square().sum() if self._summed else self._read(k, result))
        return total

    def _read(self, k: int, result: Tensor) -> Tensor:
        for dim in reversed(range(result.dim())):
            weight = self._parameters[f"weight{k}_{dim}"]
            assert weight is not None
            result = (result * weight).sum(-1)
        return result


def alone(joined: Joined) -> Iterator[tuple[str, Callable[[], Net]]]:
    """Nets in which one dimension is folded: read unit by unit where units are outermost, summed where places are."""
    for fold in folds(joined):
        how: dict[str, Any] = {"change": torch.cos} if fold.outer else {"change": _as_is, "summed": True}
        yield str(fold), lambda f=fold, h=how: Net(joined, [f], **h)


def in_pairs(joined: Joined) -> Iterator[tuple[str, Callable[[], Net]]]:
    """Nets in which two dimensions of one size are folded, by units of their own and by the same."""
    for a, b in itertools.combinations(folds(joined), 2):
        alike = joined.shapes[a.operand][a.dim] == joined.shapes[b.operand][b.dim]
        if alike and a.outer and (a.operand, a.dim) != (b.operand, b.dim):
            for shared in (True, False):
                yield f"{a} and {b}, {shared=}", lambda a=a, b=b, s=shared: Net(joined, [a, b], shared=s)


def _as_is(x: Tensor) -> Tensor:
    return x * 1.0


def wrong(net: Net, graph: Graph) -> str | None:
    """What is wrong about a cut of half of all units at random, or None."""
    plan = secateur.plan(graph, "channels=0.5", importance="random")
    try:
        verification = secateur.verify(net, secateur.cut(net, plan), plan, net.start)
    except (secateur.PruningError, RuntimeError) as error:  # sizes that do not fit, in the pruned model or the silenced
        return f"{type(error).__name__}: {error}"
    return None if verification.passed else str(verification)
