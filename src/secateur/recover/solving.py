"""Least squares for a weight: make of what it reads now what it made of what it read before.

With rows u of features (a constant 1 behind) and rows t of results, W minimises |u W - t|² + ridge |W - W0|², the
constant's row free. The ridge is the one of `RIDGES` (times the mean of the features' second moments) that does best
on rows which the solution has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from secateur.statistics.collectors import second_moments

RIDGES = (1e-6, 1e-4, 1e-2, 1e-1, 1.0)
HELD_OUT = 5  # of so many batches one is held out; of fewer, one of so many rows
BLOCK = 4096

SolvedRows: TypeAlias = "Callable[[], Iterable[tuple[Tensor, Tensor]]]"
"""Gives batches of what is read, (rows, groups, features), and of what is to come out, (rows, groups, outputs)."""


@dataclass
class _Moments:
    """gram: (groups, f + 1, f + 1), cross: (groups, f + 1, o), square: |t|²."""

    gram: Tensor | float = 0.0
    cross: Tensor | float = 0.0
    square: float = 0.0

    def add(self, seen: Tensor, wanted: Tensor) -> None:
        if len(seen):
            self.gram = self.gram + second_moments(seen).double().cpu()
            self.cross = self.cross + second_moments(seen, wanted).double().cpu()
            self.square += float(wanted.double().square().sum())

    def error(self, weight: Tensor) -> float:
        """|u W - t|²."""
        gram, cross = self.both
        return float((weight * (gram @ weight - 2 * cross)).sum()) + self.square

    @property
    def both(self) -> tuple[Tensor, Tensor]:
        """gram and cross, once something was added."""
        assert isinstance(self.gram, Tensor)
        assert isinstance(self.cross, Tensor)
        return self.gram, self.cross


def solved(rows: SolvedRows, start: Tensor, *, constant: bool = True, block: int = BLOCK) -> tuple[Tensor, float]:
    """W: (groups, features + 1, outputs), the constant's row last, from `start`; and the ridge that was chosen.

    Without `constant` that row stays as it is. More than `block` features are solved for block by block, each for what
    the others leave.
    """
    features = start.shape[1] - 1
    weight, ridge = start.double(), RIDGES[0]
    for low in range(0, features, block):
        weight, ridge = _block(rows, weight, slice(low, min(low + block, features)), constant)
    return weight, ridge


def _block(rows: SolvedRows, weight: Tensor, part: slice, constant: bool) -> tuple[Tensor, float]:
    """Solve for the change of a block of features, and of the constant, in what is left to explain."""
    fit, held = _Moments(), _Moments()
    for fitted, seen, wanted in _split(rows()):
        left = wanted.double() - applied(seen, weight)
        (fit if fitted else held).add(seen[:, :, part], left)
    whole = _Moments(fit.gram + held.gram, fit.cross + held.cross, fit.square + held.square)
    if isinstance(held.gram, float):  # too few rows to hold any out
        best = RIDGES[len(RIDGES) // 2]
    else:
        best = min(RIDGES, key=lambda ridge: held.error(_change(fit, ridge, constant)))
    change = _change(whole, best, constant)
    weight = weight.clone()
    weight[:, part] += change[:, :-1]
    weight[:, -1] += change[:, -1]
    return weight, best


def _split(rows: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[bool, Tensor, Tensor]]:
    """Rows to fit and rows to hold out. Whole batches are held out where there are enough: what comes together may be
    alike (crops of one photo), and says little of what is new."""
    first: list[tuple[Tensor, Tensor]] = []
    for number, (seen, wanted) in enumerate(rows):
        if number < HELD_OUT - 1:
            first.append((seen, wanted))
            continue
        yield from ((True, *one) for one in first)
        first = []
        yield number % HELD_OUT != HELD_OUT - 1, seen, wanted
    for seen, wanted in first:
        cut = len(seen) - len(seen) // HELD_OUT
        yield True, seen[:cut], wanted[:cut]
        yield False, seen[cut:], wanted[cut:]


def applied(seen: Tensor, weight: Tensor) -> Tensor:
    """(rows, groups, f) and (groups, f + 1, o) -> (rows, groups, o), in the precision of what is seen."""
    plain = weight.to(seen.device, torch.promote_types(seen.dtype, torch.float32))
    return torch.einsum("rgf,gfo->rgo", seen.to(plain.dtype), plain[:, :-1]).double() + plain[:, -1].double()


def _change(moments: _Moments, ridge: float, constant: bool) -> Tensor:
    gram, cross = moments.both
    diagonal = gram.diagonal(dim1=1, dim2=2)[:, :-1]
    weights = torch.zeros(gram.shape[:2], dtype=gram.dtype)
    weights[:, :-1] = ridge * diagonal.mean(1, keepdim=True).clamp_min(1e-30)
    if not constant:
        gram, cross = gram.clone(), cross.clone()
        gram[:, -1], gram[:, :, -1], cross[:, -1] = 0.0, 0.0, 0.0
        weights[:, -1] = 1.0
    factor, info = torch.linalg.cholesky_ex(gram + torch.diag_embed(weights))
    return torch.cholesky_solve(cross, factor) if not bool(info.any()) else torch.zeros_like(cross)


__all__ = ["applied", "solved"]
