"""The losses of MODNet, and the errors of a matte.

Ke et al., "MODNet: Real-Time Trimap-Free Portrait Matting via Objective Decomposition", AAAI 2022 (arXiv:2011.11961),
equations 1 to 3, with the weights and details of the authors' release. Every output has its own loss:

    semantic   mean (s - B(a))^2                              a: true alpha; B(a): a at 1/16, blurred; weight 10
    detail     mean |d - a| on the edge                       the edge: where the trimap is 0.5; weight 10
    matte      mean |m - a| + mean |m * x - a * x|            x: the image; the edge counts 4 times more; weight 1
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.data.matting import parts
from secateur.errors import InputError

SEMANTIC, DETAIL, EDGE = 10.0, 10.0, 4.0


def modnet_loss(output: Any, targets: Tensor) -> Tensor:
    """Return the sum of the three losses of an output (semantic, detail, matte); it is 0 for the true alpha.

    targets: (n, 5, h, w), see `secateur.data.matting`. Raises `InputError` for an output without the first two, as from
    a call with `inference=True`.
    """
    semantic, detail, matte = output
    if semantic is None or detail is None:
        raise InputError("the model returned only a matte; train it with inference=False")
    alpha, trimap, image = parts(targets)
    edge = (trimap == 0.5).to(alpha)
    return (
        SEMANTIC * F.mse_loss(semantic, coarse(alpha, semantic.shape[-2:]))
        + DETAIL * (edge * (detail - alpha)).abs().mean()
        + ((1 + EDGE * edge) * (matte - alpha).abs() * (1 + image.abs().mean(1, keepdim=True))).mean()
    )


def coarse(alpha: Tensor, size: Sequence[int]) -> Tensor:
    """Return alpha (n, 1, h, w), resized to `size` and blurred by a 3 x 3 Gaussian."""
    small = F.interpolate(alpha, list(size), mode="area")
    line = torch.tensor([0.25, 0.5, 0.25]).to(small)
    kernel = (line[:, None] * line).expand(1, 1, 3, 3)
    return F.conv2d(F.pad(small, (1, 1, 1, 1), mode="replicate"), kernel)


def mse(output: Any, targets: Tensor) -> float:
    """Return the mean squared error of the matte."""
    return F.mse_loss(output[2], parts(targets)[0]).item()


def mad(output: Any, targets: Tensor) -> float:
    """Return the mean absolute difference of the matte."""
    return F.l1_loss(output[2], parts(targets)[0]).item()


__all__ = ["mad", "modnet_loss", "mse"]
