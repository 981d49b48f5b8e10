"""Criteria of the activations that weights read. An axis that no weight reads is scored by its L2 norm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from secateur.importance.input_moments import InputMoments
from secateur.importance.magnitude import stand_in
from secateur.importance.slices import AxisSlices


def seen(axis: AxisSlices, value: Callable[[InputMoments], torch.Tensor]) -> torch.Tensor:
    """Return the mean of `value` over the readers of each unit, shape `axis.shape`.

    Without recorded activations, return the L2 norm of each unit's weights, divided by its mean over the axis.
    """
    found = axis.read_mean(value)
    return stand_in(axis) if found is None else found


@dataclass(frozen=True)
class NonZero:
    """Share of a unit's values that are not zero, 1 - APoZ(i): units that rarely fire are pruned first.

    Reference:
        Hu et al., "Network Trimming: A Data-Driven Neuron Pruning Approach towards Efficient Deep Architectures",
        arXiv 2016, equation 1.
    """

    needs = frozenset({"moments"})

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return seen(axis, lambda moments: 1 - moments.zeros)


@dataclass(frozen=True)
class MeanActivation:
    """Mean absolute activation of a unit, E|x_i| over examples and positions.

    Reference:
        Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR 2017,
        section 2.2 ("Activation"), with the absolute value for activations of either sign.
    """

    needs = frozenset({"moments"})

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return seen(axis, lambda moments: moments.absolute)


@dataclass(frozen=True)
class Variance:
    """Variance of a unit, E[x_i²] - E[x_i]² over examples and positions: the error of replacing x_i by its mean.

    Mean shift (`recover="shift"`) makes that replacement.

    Reference:
        Berisha et al., "Variance-Based Pruning for Accelerating and Compressing Trained Networks", ICCV 2025.
    """

    needs = frozenset({"moments"})

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return seen(axis, lambda moments: moments.variance)


@dataclass(frozen=True)
class Wanda:
    """Sum of |w| sqrt(E[x²]) over the weights w that read a unit, where x is the input that w multiplies.

    Reference:
        Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024, equation 1, summed
        over the slices w[:, i] of all weights that read unit i. The root mean square replaces the norm, so that layers
        with different numbers of positions are comparable.
    """

    needs = frozenset({"moments"})

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        found = axis.read_sum(lambda moments: moments.weights(1) * moments.rms)
        return stand_in(axis) if found is None else found
