"""Regularized least squares for one weight: reproduce the wanted outputs from the current inputs.

With rows u of features (a constant 1 appended) and rows t of wanted outputs, W minimizes |u W - t|² + ridge |W - W0|²,
where W0 is the current weight and the constant's row is not penalized. The ridge is the value of `RIDGES` (times the
mean second moment of the features) with the least error on held-out rows.

Reference:
    Hoerl and Kennard, "Ridge Regression: Biased Estimation for Nonorthogonal Problems", Technometrics 1970, with the
    penalty centred on the current weight. The choice of the ridge on held-out batches, and solving by blocks of
    features, are our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from secateur.statistics.collectors import second_moments

RIDGES = (1e-6, 1e-4, 1e-2, 1e-1, 1.0)
HELD_OUT = 5  # one batch in 5 is held out; with fewer batches, one row in 5
BLOCK = 4096

SolvedRows: TypeAlias = "Callable[[], Iterable[tuple[Tensor, Tensor]]]"
"""Returns batches of inputs, (rows, groups, features), and of wanted outputs, (rows, groups, outputs)."""


@dataclass
class _Moments:
    """Accumulated moments. gram: (groups, f + 1, f + 1), cross: (groups, f + 1, o), square: |t|²."""

    gram: Tensor | float = 0.0
    cross: Tensor | float = 0.0
    square: float = 0.0

    def add(self, seen: Tensor, wanted: Tensor) -> None:
        if len(seen):
            self.gram = self.gram + second_moments(seen).double().cpu()
            self.cross = self.cross + second_moments(seen, wanted).double().cpu()
            self.square += float(wanted.double().square().sum())

    def error(self, weight: Tensor) -> float:
        """Return |u W - t|² of a weight W."""
        gram, cross = self.both
        return float((weight * (gram @ weight - 2 * cross)).sum()) + self.square

    @property
    def both(self) -> tuple[Tensor, Tensor]:
        """The tensors gram and cross; something must have been added."""
        assert isinstance(self.gram, Tensor)
        assert isinstance(self.cross, Tensor)
        return self.gram, self.cross


def solved(rows: SolvedRows, start: Tensor, *, constant: bool = True, block: int = BLOCK) -> tuple[Tensor, float]:
    """Solve for a weight, starting from `start`.

    Args:
        rows: Called several times; yields the same batches each time.
        start: The current weight, (groups, features + 1, outputs), with the constant's row last.
        constant: Whether the constant's row may change.
        block: More features than this are solved for block by block, each on the residual of the others.

    Returns:
        The new weight, of the shape of `start`, and the chosen ridge.
    """
    features = start.shape[1] - 1
    weight, ridge = start.double(), RIDGES[0]
    for low in range(0, features, block):
        weight, ridge = _block(rows, weight, slice(low, min(low + block, features)), constant)
    return weight, ridge


def _block(rows: SolvedRows, weight: Tensor, part: slice, constant: bool) -> tuple[Tensor, float]:
    """Solve for the change of a block of features, and of the constant, on the residual."""
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
    """Yield rows with whether they are fitted (True) or held out (False).

    Whole batches are held out where there are enough of them: rows of one batch may be similar (crops of one photo),
    and would overestimate how well the solution generalizes.
    """
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
    """Apply a weight to inputs: (rows, groups, f) and (groups, f + 1, o) -> (rows, groups, o)."""
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
