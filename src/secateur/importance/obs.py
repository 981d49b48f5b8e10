"""Optimal Brain Surgeon for whole units: greedy removal of the units that the remaining ones replace best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.importance.magnitude import L2
from secateur.importance.slices import AxisSlices, Problem

DAMPING = 1e-3
DEPENDENT = 4
"""The number of correlated rows that count as one independent row: positions of one image are similar."""
AT_ONCE = 64
"""An axis of n units loses max(1, n // AT_ONCE) of them at a time."""


@dataclass(frozen=True)
class OptimalBrainSurgeon:
    """Output error of the weights that read a unit, after the remaining units compensate for its removal.

    Units are removed one after another, the cheapest first; each score is measured with the earlier units gone. For a
    weight W: (f, o) that reads features with covariance H: (f, f), removing unit u with the features F adds the squared
    error tr(W_F' (H^-1)_FF^-1 W_F), and the rest becomes W - (H^-1)_:F (H^-1)_FF^-1 W_F. The score is the root of the
    error's share of the output variance, summed over all weights that read the unit. Use it with `recover="lsq"`, which
    compensates in the weights. An axis that no weight reads is scored by its L2 norm.

    Reference:
        Hassibi and Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", NIPS 1992, equation 5,
        for whole units and the error of each layer as in Kurtic et al., "ZipLM: Inference-Aware Structured Pruning of
        Language Models", NeurIPS 2023, equations 3 and 4.
    """

    needs = frozenset({"gram"})
    norm = "none"

    def __call__(self, axis: AxisSlices) -> Tensor:
        systems = [_System.of(problem) for problem in axis.problems()]
        if not systems:
            return axis.normalised(L2()(axis), "mean")
        return _eliminated(systems, math.prod(axis.shape)).view(axis.shape)


@dataclass
class _System:
    """The remaining part of a `Problem`: the inverse covariance of the features, the weight (with outputs scaled to a
    total variance of one), and the features of each unit."""

    inverse: Tensor
    weight: Tensor
    places: Tensor

    @staticmethod
    def of(problem: Problem) -> _System:
        weight, diagonal = problem.weight, problem.covariance.diagonal()
        variance = (weight * (problem.covariance @ weight)).sum()
        covariance = (1 - _doubt(problem.covariance, problem.rows / DEPENDENT)) * problem.covariance
        covariance.diagonal().copy_(diagonal + DAMPING * diagonal.mean().clamp_min(1e-12))
        return _System(torch.linalg.inv(covariance), weight / variance.clamp_min(1e-12).sqrt(), problem.places)

    def lost(self, units: Tensor) -> Tensor:
        """Return the root of the error of removing each of these units next, shape (units,)."""
        at = self.places[units]
        blocks = self.inverse[at.unsqueeze(2), at.unsqueeze(1)]
        weights = self.weight[at]
        return (weights * torch.linalg.solve(blocks, weights)).sum((1, 2)).clamp_min(0.0).sqrt()

    def remove(self, units: Tensor) -> None:
        """Remove these units and compensate for them in the rest."""
        gone = self.places[units].flatten()
        stays = torch.ones(len(self.inverse), dtype=torch.bool).index_fill_(0, gone, False)
        rest = stays.nonzero().flatten()
        across = self.inverse[rest][:, gone]
        coupled = torch.cat([across.T, self.weight[gone]], 1)
        made_up = across @ torch.linalg.solve(self.inverse[gone][:, gone], coupled)
        self.inverse = self.inverse[rest][:, rest] - made_up[:, : len(rest)]
        self.weight = self.weight[rest] - made_up[:, len(rest) :]
        self.places = (stays.cumsum(0) - 1)[self.places]


def _doubt(covariance: Tensor, rows: float) -> float:
    """Return the shrinkage of the off-diagonal covariance, from 0 to 1, for an estimate from this many rows.

    Reference:
        Chen, Wiesel, Eldar and Hero, "Shrinkage Algorithms for MMSE Covariance Estimation", IEEE Transactions on Signal
        Processing, 2010, equation 23 (OAS), applied to correlations.
    """
    scale = covariance.diagonal().clamp_min(1e-30).rsqrt()
    together, p = float((scale.unsqueeze(1) * covariance * scale).square().sum()), len(covariance)
    apart = (rows + 1 - 2 / p) * (together - p)
    return min(1.0, ((1 - 2 / p) * together + p**2) / apart) if apart > 0 else 1.0


def _eliminated(systems: Sequence[_System], units: int) -> Tensor:
    """Return the error of removing each unit in turn, summed over the systems and never falling: (units,)."""
    scores = torch.zeros(units, dtype=torch.float64)
    alive = torch.arange(units)
    worst = 0.0
    while len(alive):
        lost = torch.stack([system.lost(alive) for system in systems]).sum(0)
        chosen = lost.argsort(stable=True)[: max(1, units // AT_ONCE)]
        for i in chosen.tolist():
            worst = max(worst, float(lost[i]))
            scores[alive[i]] = worst
        for system in systems:
            system.remove(alive[chosen])
        stays = torch.ones(len(alive), dtype=torch.bool)
        stays[chosen] = False
        alive = alive[stays]
    return scores
