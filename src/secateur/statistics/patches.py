"""Converts inputs to rows, one per position: the patch under a convolution's window, or the channels of a token."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Window:
    """Kernel size, stride and dilation in each spatial dimension, and the padding before and after it."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]

    @staticmethod
    def of(kernel: Sequence[int], stride: Any, padding: Any, dilation: Any) -> Window:
        """Return the window for the arguments of a torch convolution."""
        kernel = tuple(kernel)
        wide = _each(dilation, 1, len(kernel))
        return Window(kernel, _each(stride, 1, len(kernel)), wide, _padding(padding, kernel, wide))

    def _padded(self, x: Tensor) -> Tensor:
        sides = list(itertools.chain.from_iterable(reversed(self.padding)))
        return F.pad(x, sides) if any(sides) else x

    def convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        """Return the convolution of x: (n, c, *size) with a weight of this kernel size."""
        convolve = (torch.conv1d, torch.conv2d, torch.conv3d)[len(self.kernel) - 1]
        return convolve(self._padded(x), weight, bias, self.stride, 0, self.dilation, groups)

    def patches(self, x: Tensor) -> Tensor:
        """Return the patches of x: (n, c, *size) -> (n, *places, c, *kernel), a view of x or of its padded copy."""
        x = self._padded(x)
        sizes = [
            (n - d * (k - 1) - 1) // s + 1
            for n, k, s, d in zip(x.shape[2:], self.kernel, self.stride, self.dilation, strict=True)
        ]
        step = x.stride()
        strides = [
            step[0],
            *(t * s for t, s in zip(step[2:], self.stride, strict=True)),
            step[1],
            *(t * d for t, d in zip(step[2:], self.dilation, strict=True)),
        ]
        return x.as_strided((x.shape[0], *sizes, x.shape[1], *self.kernel), strides, x.storage_offset())


def _each(value: Any, default: int, n: int) -> tuple[int, ...]:
    """Return a number for each of n dimensions."""
    value = default if value is None else value
    value = (value,) if isinstance(value, int) else tuple(value)
    return value * n if len(value) == 1 else value


def _padding(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[tuple[int, int], ...]:
    if padding == "same":
        spans = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((span // 2, span - span // 2) for span in spans)
    padding = 0 if padding == "valid" else padding
    return tuple((p, p) for p in _each(padding, 0, len(kernel)))


def rows(
    x: Tensor, channel: int, window: Window | None, groups: int, places: int, generator: torch.Generator
) -> Tensor:
    """Return the inputs of a weight at up to `places` random positions of each entry of x's first dimension.

    The result has shape (rows, groups, features), where features are the channels of a group times the kernel, in the
    order of the weight.
    """
    if window is None:
        seen, spatial = x.movedim(channel, -1), x.dim() - 2
        seen = seen.unsqueeze(0) if spatial < 0 else seen
    else:
        spatial = len(window.kernel)
        seen = window.patches(x if x.dim() == spatial + 2 else x.unsqueeze(0))
    found = _drawn(seen, max(spatial, 0), places, generator)
    return found.reshape(len(found), groups, -1)


def _drawn(seen: Tensor, spatial: int, places: int, generator: torch.Generator) -> Tensor:
    """Sample positions of each of n in a tensor (n, *spatial, ...), before anything is copied."""
    n, sizes = seen.shape[0], seen.shape[1 : 1 + spatial]
    have = sizes.numel()
    if have <= places:
        return seen.reshape(n * have, *seen.shape[1 + spatial :])
    chosen = torch.rand(n, have, generator=generator).topk(places, dim=1).indices.flatten()
    at = torch.unravel_index(chosen.to(seen.device), sizes)
    return seen[(torch.arange(n, device=seen.device).repeat_interleave(places), *at)]


__all__ = ["Window", "rows"]
