"""What reads units: the weights that sum over them. Calibration listens to these, recovery makes them anew."""

from __future__ import annotations

from dataclasses import dataclass

from .terms import Term


@dataclass(frozen=True, slots=True)
class Reader:
    """A parameter that a linear layer, a convolution or a matrix product sums over along `dim`.

    `channels` is the term of the channels of what it is multiplied by; in a grouped convolution that is groups times
    channels per group. Depthwise convolutions sum over no channels and are none.
    """

    weight: str
    dim: int
    channels: Term
    bias: str | None = None
    groups: int = 1


__all__ = ["Reader"]
