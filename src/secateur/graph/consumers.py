"""What reads units: the weights that sum over them. Calibration listens to these, recovery makes them anew."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from secateur.terms import Term


@dataclass(frozen=True, slots=True)
class Consumer:
    """A parameter that a linear layer, a convolution or a matrix product sums over along `dim`.

    `channels` is the term of the channels of what it is multiplied by; in a grouped convolution that is groups times
    channels per group. Depthwise convolutions sum over no channels and are none.
    """

    weight: str
    dim: int
    channels: Term
    bias: str | None = None
    groups: int = 1


def matrix_of(weight: Tensor, dim: int, groups: int) -> Tensor:
    """A weight that sums over `dim` as (groups, features, outputs); that of a transposed convolution (dim 0) gives all
    places of its kernel as outputs."""
    if weight.dim() > 2 and dim == 0:
        return weight.flatten(1).unsqueeze(0)
    if weight.dim() == 2:
        return (weight.T if dim == 1 else weight).unsqueeze(0)
    return weight.reshape(groups, weight.shape[0] // groups, -1).transpose(1, 2)


def weight_of(matrix: Tensor, like: Tensor, dim: int) -> Tensor:
    """The other way, in the shape of `like`."""
    if dim == 0:
        return matrix[0].reshape(like.shape)
    if like.dim() == 2:
        return matrix[0].T
    return matrix.transpose(1, 2).reshape(like.shape)


__all__ = ["Consumer", "matrix_of", "weight_of"]
