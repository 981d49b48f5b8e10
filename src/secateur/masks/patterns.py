"""Sparsity patterns: which weights become zero together, such as single weights, blocks, or two of every four.

A pattern reads a weight as W: (o, i, ...), outputs first and inputs second. It sums the scores of weights into scores
of blocks, (rows, blocks), where rows are outputs or blocks of outputs, and expands a mask of blocks to one of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Protocol

import torch
from torch import Tensor

from secateur.base.table import Table
from secateur.errors import InputError, nearest


class Pattern(Protocol):
    """A sparsity pattern. fixed: the share of zeros that the pattern dictates; None where it is free."""

    @property
    def fixed(self) -> float | None: ...

    def lack(self, shape: tuple[int, ...], groups: int = 1) -> str | None:
        """Return why a weight of this shape (o, i, ...) cannot have the pattern; None where it can.

        groups: the number of groups of outputs, each of which reads its own inputs, as in a grouped convolution.
        """
        ...

    def holds(self, kept: Tensor) -> bool:
        """Return whether a mask of a weight (o, i, ...) has the pattern."""
        ...

    def blocks(self, scores: Tensor) -> Tensor:
        """Sum scores of weights (o, i, ...) into scores of blocks (rows, blocks)."""
        ...

    def spread(self, kept: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Expand a mask of blocks (rows, blocks) to a mask of weights (o, i, ...)."""
        ...


@dataclass(frozen=True)
class Unstructured:
    """Every weight is a block of its own: zeros may be anywhere."""

    fixed: float | None = None

    def lack(self, shape: tuple[int, ...], groups: int = 1) -> str | None:
        return None

    def holds(self, kept: Tensor) -> bool:
        return True

    def blocks(self, scores: Tensor) -> Tensor:
        return scores.reshape(len(scores), -1)

    def spread(self, kept: Tensor, shape: tuple[int, ...]) -> Tensor:
        return kept.reshape(shape)


@dataclass(frozen=True)
class Blocks:
    """Blocks of `height` consecutive outputs at one input position, which sparse CPU kernels load as one vector.

    Reference:
        Elsen et al., "Fast Sparse ConvNets", CVPR 2020, section 3 (blocks of 4 x 1 in output channels).
    """

    height: int = 4
    fixed: float | None = None

    def lack(self, shape: tuple[int, ...], groups: int = 1) -> str | None:
        outputs = shape[0] // groups
        of = f"{outputs} outputs of each group" if groups > 1 else f"{outputs} outputs"
        return f"its {of} are not a multiple of {self.height}" if outputs % self.height else None

    def holds(self, kept: Tensor) -> bool:
        blocks = self.blocks(kept.float())
        return bool(((blocks == 0) | (blocks == self.height)).all())

    def blocks(self, scores: Tensor) -> Tensor:
        return scores.reshape(len(scores), -1).unflatten(0, (-1, self.height)).sum(1)

    def spread(self, kept: Tensor, shape: tuple[int, ...]) -> Tensor:
        return kept.repeat_interleave(self.height, 0).reshape(shape)


@dataclass(frozen=True)
class NofM:
    """`n` of every `m` consecutive inputs stay; in a convolution, of every `m` input channels at one kernel position.

    Reference:
        Mishra et al., "Accelerating Sparse Deep Neural Networks", arXiv 2104.08378 (NVIDIA, 2021), section 2 (2:4).
    """

    n: int = 2
    m: int = 4

    @property
    def fixed(self) -> float:
        return 1 - self.n / self.m

    def lack(self, shape: tuple[int, ...], groups: int = 1) -> str | None:
        if len(shape) < 2:
            return "it is a vector"
        of = f"{shape[1]} inputs of each group" if groups > 1 else f"{shape[1]} inputs"
        return f"its {of} are not a multiple of {self.m}" if shape[1] % self.m else None

    def holds(self, kept: Tensor) -> bool:
        return bool((self.blocks(kept).sum(1) <= self.n).all())

    def blocks(self, scores: Tensor) -> Tensor:
        return scores.movedim(1, -1).reshape(-1, self.m)

    def spread(self, kept: Tensor, shape: tuple[int, ...]) -> Tensor:
        last = (shape[0], *shape[2:], shape[1])
        return kept.reshape(last).movedim(-1, 1)


PATTERNS: Table[str, Pattern] = Table(
    "patterns named", {"unstructured": Unstructured(), "4x1": Blocks(4), "2:4": NofM(2, 4)}
)
"""The names that `pattern=` takes."""

DEFAULT = 0.9
"""The share of zeros where neither the caller nor the pattern sets one."""


def named_pattern(name: str) -> Pattern:
    """Return the pattern of a name. Raises `InputError` for an unknown one."""
    if name not in PATTERNS:
        raise InputError(
            f"pattern={name!r}{nearest(name, PATTERNS)}\n"
            f"known: {', '.join(PATTERNS)}; whole channels, heads and neurons are cut by secateur.prune"
        )
    return PATTERNS[name]


def sparsity_of(sparsity: float | None, pattern: str) -> float:
    """Return the share of zeros to reach. Raises `InputError` for a value that is not a share, or not the pattern's."""
    fixed = named_pattern(pattern).fixed
    if sparsity is None:
        return DEFAULT if fixed is None else fixed
    if isinstance(sparsity, bool) or not isinstance(sparsity, Real) or not 0 <= sparsity < 1:
        raise InputError(
            f"sparsity={sparsity!r}: the share of weights that are zero must be 0 or above, and below 1\n"
            "pass 0.9 for 90 %"
        )
    if fixed is not None and sparsity != fixed:
        raise InputError(f"sparsity={sparsity:g}, but pattern={pattern!r} makes {fixed:g} zero\nleave sparsity out")
    return float(sparsity)


def lowest(scores: Tensor, count: int) -> Tensor:
    """Return where the `count` lowest scores of each row are: (rows, n) -> bool (rows, n). Ties go to the first.

    >>> lowest(torch.tensor([[3.0, 1.0, 1.0, 1.0]]), 2)
    tensor([[False,  True,  True, False]])
    """
    if not count:
        return torch.zeros_like(scores, dtype=torch.bool)
    threshold = scores.kthvalue(count, dim=1, keepdim=True).values
    below, equal = scores < threshold, scores == threshold
    wanted = count - below.count_nonzero(1).unsqueeze(1)
    if bool((equal.count_nonzero(1).unsqueeze(1) == wanted).all()):  # no ties, the usual case
        return below | equal
    return below | (equal & (equal.cumsum(1) <= wanted))


__all__ = ["PATTERNS", "Pattern", "lowest", "named_pattern", "sparsity_of"]
