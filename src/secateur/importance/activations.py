"""What the weights that read a unit see of it. An axis that no weight reads is scored by L2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from secateur.importance.input_moments import InputMoments
from secateur.importance.magnitude import stand_in
from secateur.importance.slices import AxisSlices


def seen(axis: AxisSlices, value: Callable[[InputMoments], torch.Tensor]) -> torch.Tensor:
    """The mean over what reads each unit; by its weights' norm, with a mean of 1, where nothing was heard."""
    found = axis.read_mean(value)
    return stand_in(axis) if found is None else found


@dataclass(frozen=True)
class NonZero:
    """The share of values that are not zero, 1 - APoZ(i): units that hardly ever fire go first.

    Hu et al., "Network Trimming: A Data-Driven Neuron Pruning Approach towards Efficient Deep Architectures", 2016,
    equation 1.
    """

    needs = frozenset({"moments"})

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return seen(axis, lambda heard: 1 - heard.zeros)


@dataclass(frozen=True)
class MeanActivation:
    """E|x_i| over examples and places.

    Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR 2017, section 2.2
    ("Activation"), with the absolute value for activations of either sign.
    """

    needs = frozenset({"moments"})

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return seen(axis, lambda heard: heard.absolute)


@dataclass(frozen=True)
class Variance:
    """E[x_i²] - E[x_i]² over examples and places: what is lost when x_i is replaced by its mean, as mean shift does.

    Berisha et al., "Variance-Based Pruning for Accelerating and Compressing Trained Networks", ICCV 2025.
    """

    needs = frozenset({"moments"})

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        return seen(axis, lambda heard: heard.variance)


@dataclass(frozen=True)
class Wanda:
    """Sum over the weights w that read a unit of |w| sqrt(E[x²]), x being what w is multiplied by.

    Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024, equation 1, summed over
    the slices w[:, i] of all that reads unit i; the root mean square stands for the norm, so that layers that see more
    places than others compare.
    """

    needs = frozenset({"moments"})

    def __call__(self, axis: AxisSlices) -> torch.Tensor:
        found = axis.read_sum(lambda heard: heard.weights(1) * heard.rms)
        return stand_in(axis) if found is None else found
