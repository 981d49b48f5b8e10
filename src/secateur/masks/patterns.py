"""Which weights go together: each one by itself, in blocks, or two of every four.

A pattern sees a weight with its outputs first and its inputs second, W: (o, i, ...). It sums scores into those of
blocks, (rows, blocks), rows being outputs (of blocks of them), and spreads what is decided for blocks over the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import InputError, nearest


class Pattern(Protocol):
    """One way in which zeros may lie. fixed: the share of zeros, where there is no choice."""

    @property
    def fixed(self) -> float | None: ...

    def lack(self, shape: tuple[int, ...]) -> str | None:
        """Why a weight of this shape (o, i, ...) has no such pattern; None where it has."""
        ...

    def blocks(self, scores: Tensor) -> Tensor:
        """Scores of weights (o, i, ...) as scores of blocks (rows, blocks)."""
        ...

    def spread(self, kept: Tensor, shape: tuple[int, ...]) -> Tensor:
        """What is kept of blocks (rows, blocks) as what is kept of weights (o, i, ...)."""
        ...


@dataclass(frozen=True)
class Unstructured:
    """Every weight by itself."""

    fixed: float | None = None

    def lack(self, shape: tuple[int, ...]) -> str | None:
        return None

    def blocks(self, scores: Tensor) -> Tensor:
        return scores.flatten(1)

    def spread(self, kept: Tensor, shape: tuple[int, ...]) -> Tensor:
        return kept.reshape(shape)


@dataclass(frozen=True)
class Blocks:
    """`height` consecutive outputs at one input position: what sparse CPU kernels load as one vector.

    Elsen et al., "Fast Sparse ConvNets", CVPR 2020, section 3: blocks of 4 x 1 in the output channels.
    """

    height: int = 4
    fixed: float | None = None

    def lack(self, shape: tuple[int, ...]) -> str | None:
        rest = shape[0] % self.height
        return f"its {shape[0]} outputs are no multiple of {self.height}" if rest else None

    def blocks(self, scores: Tensor) -> Tensor:
        return scores.flatten(1).unflatten(0, (-1, self.height)).sum(1)

    def spread(self, kept: Tensor, shape: tuple[int, ...]) -> Tensor:
        return kept.repeat_interleave(self.height, 0).reshape(shape)


@dataclass(frozen=True)
class NofM:
    """`n` of every `m` consecutive inputs stay; in a convolution these are input channels at one place of the kernel.

    Mishra et al., "Accelerating Sparse Deep Neural Networks", arXiv 2104.08378 (NVIDIA, 2021), section 2: 2:4.
    """

    n: int = 2
    m: int = 4

    @property
    def fixed(self) -> float:
        return 1 - self.n / self.m

    def lack(self, shape: tuple[int, ...]) -> str | None:
        rest = shape[1] % self.m
        return f"its {shape[1]} inputs are no multiple of {self.m}" if rest else None

    def blocks(self, scores: Tensor) -> Tensor:
        return scores.movedim(1, -1).reshape(-1, self.m)

    def spread(self, kept: Tensor, shape: tuple[int, ...]) -> Tensor:
        last = (shape[0], *shape[2:], shape[1])
        return kept.reshape(last).movedim(-1, 1)


PATTERNS: dict[str, Pattern] = {"unstructured": Unstructured(), "4x1": Blocks(4), "2:4": NofM(2, 4)}
"""The names that `pattern=` takes."""

DEFAULT = 0.9
"""The share of zeros where neither the user nor the pattern says one."""


def named_pattern(name: str) -> Pattern:
    """The pattern of a name. Raises `InputError` for an unknown one."""
    if name not in PATTERNS:
        raise InputError(f"pattern={name!r}{nearest(name, PATTERNS)}\nknown: {', '.join(PATTERNS)}")
    return PATTERNS[name]


def sparsity_of(sparsity: float | None, pattern: str) -> float:
    """The share of zeros that is asked for. Raises `InputError` for what is no share, or not that of the pattern."""
    fixed = named_pattern(pattern).fixed
    if sparsity is None:
        return DEFAULT if fixed is None else fixed
    if isinstance(sparsity, bool) or not isinstance(sparsity, (int, float)) or not 0 <= sparsity < 1:
        raise InputError(f"sparsity={sparsity!r}: the share of weights that are zero, 0 or above and below 1")
    if fixed is not None and sparsity != fixed:
        raise InputError(f"sparsity={sparsity:g}, but pattern={pattern!r} makes {fixed:g} zero; leave sparsity out")
    return float(sparsity)


def lowest(scores: Tensor, count: int) -> Tensor:
    """Where the `count` lowest scores of each row lie: (rows, n) -> bool (rows, n). Of equal ones the first.

    >>> lowest(torch.tensor([[3.0, 1.0, 1.0, 1.0]]), 2)
    tensor([[False,  True,  True, False]])
    """
    if not count:
        return torch.zeros_like(scores, dtype=torch.bool)
    threshold = scores.kthvalue(count, dim=1, keepdim=True).values
    below, equal = scores < threshold, scores == threshold
    wanted = count - below.sum(1, keepdim=True)
    return below | (equal & (equal.cumsum(1) <= wanted))


__all__ = ["PATTERNS", "Pattern", "lowest", "named_pattern", "sparsity_of"]
