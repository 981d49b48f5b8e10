"""Pre-activation ResNets with bottlenecks for 32 x 32 images, as Liu et al. (ICCV 2017) cut them.

He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016.

Norm and activation precede each convolution, so the sum along the shortcuts, the stream, is read by the first norm of
every block and by the last norm of the network. All 9 n + 2 layers except the first and the last are in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from secateur.models.widths import blocks_of, scaled

EXPANSION = 4

STREAM = ("layer*.bn1", "bn")
"""The norms that read the stream, for `secateur.models.pick.with_picks`."""


class PreBottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions after norms; x: (b, i, h, w) -> (b, 4 width, h / stride, w / stride)"""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        changes = stride > 1 or inputs != outputs
        self.downsample = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.bn1(x)))
        y = self.conv2(F.relu(self.bn2(y)))
        y = self.conv3(F.relu(self.bn3(y)))
        return self.downsample(x) + y


class PreResNet(nn.Module):
    """x: (b, channels, h, w) -> logits (b, num_classes); `n` blocks per stage."""

    def __init__(self, n: int, *, width: float = 1.0, channels: int = 3, num_classes: int = 10) -> None:
        super().__init__()
        first, second, third = (scaled(w, width) for w in (16, 32, 64))
        self.conv1 = nn.Conv2d(channels, first, 3, 1, 1, bias=False)
        self.layer1 = nn.Sequential(*_stage(n, first, first, 1))
        self.layer2 = nn.Sequential(*_stage(n, EXPANSION * first, second, 2))
        self.layer3 = nn.Sequential(*_stage(n, EXPANSION * second, third, 2))
        self.bn = nn.BatchNorm2d(EXPANSION * third)
        self.linear = nn.Linear(EXPANSION * third, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.linear(F.relu(self.bn(x)).mean((2, 3)))


def _stage(n: int, inputs: int, width: int, stride: int) -> Iterator[PreBottleneck]:
    yield PreBottleneck(inputs, width, stride)
    for _ in range(n - 1):
        yield PreBottleneck(EXPANSION * width, width, 1)


def preresnet(depth: int, *, width: float = 1.0, channels: int = 3, num_classes: int = 10) -> PreResNet:
    """Return a PreResNet of 9 n + 2 layers (11, 20, 29, 56, 164), `width` times as wide.

    Raises `InputError` for other depths.

    >>> sum(parameter.numel() for parameter in preresnet(164).parameters())
    1703258
    """
    return PreResNet(blocks_of(depth, 9, 2, "PreResNet"), width=width, channels=channels, num_classes=num_classes)


__all__ = ["STREAM", "PreBottleneck", "PreResNet", "preresnet"]
