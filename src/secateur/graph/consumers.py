"""Consumers: the weights that sum over units. Calibration records their inputs, and recovery recomputes them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from secateur.terms import Term


@dataclass(frozen=True, slots=True)
class Consumer:
    """A parameter that a linear layer, a convolution or a matrix product sums over along `dim`.

    `channels` is the term of the channel dimension of the layer's input; in a grouped convolution that is groups times
    channels per group. A depthwise convolution does not sum over channels, so its weight is not a consumer.
    """

    weight: str
    dim: int
    channels: Term
    bias: str | None = None
    groups: int = 1


def matrix_of(weight: Tensor, dim: int, groups: int) -> Tensor:
    """Return a weight that sums over `dim` as a matrix of shape (groups, features, outputs).

    In a transposed convolution (dim 0), every position of the kernel counts as an output.
    """
    if weight.dim() > 2 and dim == 0:
        return weight.flatten(1).unsqueeze(0)
    if weight.dim() == 2:
        return (weight.T if dim == 1 else weight).unsqueeze(0)
    return weight.reshape(groups, weight.shape[0] // groups, -1).transpose(1, 2)


def weight_of(matrix: Tensor, like: Tensor, dim: int) -> Tensor:
    """Return a matrix from `matrix_of` as a weight in the shape of `like`."""
    if dim == 0:
        return matrix[0].reshape(like.shape)
    if like.dim() == 2:
        return matrix[0].T
    return matrix.transpose(1, 2).reshape(like.shape)


__all__ = ["Consumer", "matrix_of", "weight_of"]
