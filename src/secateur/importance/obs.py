"""Greedy selection that knows what least squares will make good: the surgeon takes what the rest can replace."""

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
"""So many rows tell as much as one that is independent of the others: places of an image are much alike."""
AT_ONCE = 64
"""An axis of so many units loses them one by one, one of twice as many in pairs."""


@dataclass(frozen=True)
class OptimalBrainSurgeon:
    """What is lost of the results of what reads a unit, when the units before it are gone already and what is left
    makes up for all of them as well as it can: the root of its share, summed over all that reads the unit.

    For a weight W: (f, o) that reads features with covariance H: (f, f), removing unit u with the features F loses
    tr(W_F' (H^-1)_FF^-1 W_F), and the rest becomes W - (H^-1)_:F (H^-1)_FF^-1 W_F. Units go one after another, the
    cheapest first. Meant to go with `recover="lsq"`, which does that to the weights.

    Hassibi and Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", NIPS 1992, equation 5, for
    whole units and the error of each layer, as Kurtic et al., "ZipLM", NeurIPS 2023, equations 3 and 4. An axis that no
    weight reads is scored by L2.
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
    """What is left of a problem: the inverse of the features' covariance, the weight (its results scaled to a variance
    of one in all), and the features of each unit."""

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
        """The root of the error that each of these units makes, if it goes next: (units,)."""
        at = self.places[units]
        blocks = self.inverse[at.unsqueeze(2), at.unsqueeze(1)]
        weights = self.weight[at]
        return (weights * torch.linalg.solve(blocks, weights)).sum((1, 2)).clamp_min(0.0).sqrt()

    def remove(self, units: Tensor) -> None:
        """Take these units out, and let the rest make up for them."""
        gone = self.places[units].flatten()
        stays = torch.ones(len(self.inverse), dtype=torch.bool).index_fill_(0, gone, False)
        rest = stays.nonzero().flatten()
        across = self.inverse[rest][:, gone]
        beside = torch.cat([across.T, self.weight[gone]], 1)
        made_up = across @ torch.linalg.solve(self.inverse[gone][:, gone], beside)
        self.inverse = self.inverse[rest][:, rest] - made_up[:, : len(rest)]
        self.weight = self.weight[rest] - made_up[:, len(rest) :]
        self.places = (stays.cumsum(0) - 1)[self.places]


def _doubt(covariance: Tensor, rows: float) -> float:
    """How far what few rows say of features that go together is to be drawn towards saying nothing, 0 to 1.

    Chen, Wiesel, Eldar, Hero, "Shrinkage Algorithms for MMSE Covariance Estimation", IEEE Transactions on Signal
    Processing, 2010, equation 23 (OAS), on correlations.
    """
    scale = covariance.diagonal().clamp_min(1e-30).rsqrt()
    together, p = float((scale.unsqueeze(1) * covariance * scale).square().sum()), len(covariance)
    apart = (rows + 1 - 2 / p) * (together - p)
    return min(1.0, ((1 - 2 / p) * together + p**2) / apart) if apart > 0 else 1.0


def _eliminated(systems: Sequence[_System], units: int) -> Tensor:
    """What is lost when each unit goes in its turn, never less than before; summed over the systems. (units,)"""
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
