"""Random augmentations that keep the class of an image. They depend only on the generator passed to them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT = 4


def flip_and_shift(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirror images x: (n, c, h, w) at random and shift them by up to 4 pixels in each direction, padding with 0.

    On normalised images 0 is the mean colour. He et al., "Deep Residual Learning", CVPR 2016, section 4.2.

    >>> x = torch.arange(16.0).view(1, 1, 4, 4)
    >>> flip_and_shift(x, np.random.default_rng(0)).shape
    torch.Size([1, 1, 4, 4])
    """
    n, channels, height, width = x.shape
    mirrored = torch.from_numpy(rng.random(n) < 0.5).view(n, 1, 1, 1)
    wide = F.pad(torch.where(mirrored, x.flip(3), x), (SHIFT,) * 4)
    top, left = torch.from_numpy(rng.integers(0, 2 * SHIFT + 1, (2, n)))
    rows = (top[:, None] + torch.arange(height)).view(n, 1, height, 1)
    columns = (left[:, None] + torch.arange(width)).view(n, 1, 1, width)
    return wide[torch.arange(n).view(n, 1, 1, 1), torch.arange(channels).view(1, -1, 1, 1), rows, columns]


__all__ = ["flip_and_shift"]
