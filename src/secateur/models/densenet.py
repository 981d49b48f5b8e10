"""DenseNets for 32 x 32 images: every layer reads the outputs of all layers before it in its block.

Huang et al., "Densely Connected Convolutional Networks", CVPR 2017: DenseNet-40 with growth 12, without bottlenecks or
compression, as Liu et al. (ICCV 2017) cut it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.models.widths import blocks_of, scaled

STREAM = ("dense*.bn1", "bn")
"""The norms that read the outputs of several layers, for `secateur.models.pick.with_picks`."""


class DenseLayer(nn.Module):
    """A norm and a 3 x 3 convolution, concatenated to the input; x: (b, i, h, w) -> (b, i + growth, h, w)"""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv1(F.relu(self.bn1(x)))], 1)


class Transition(nn.Module):
    """A norm, a 1 x 1 convolution and average pooling; x: (b, i, h, w) -> (b, i, h / 2, w / 2)"""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, inputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv1(F.relu(self.bn1(x))), 2)


class DenseNet(nn.Module):
    """x: (b, channels, h, w) -> logits (b, num_classes); three blocks of `n` layers."""

    def __init__(self, n: int, growth: int, *, channels: int = 3, num_classes: int = 10) -> None:
        super().__init__()
        first, more = 2 * growth, n * growth
        last = first + 3 * more
        self.conv1 = nn.Conv2d(channels, first, 3, padding=1, bias=False)
        self.dense1 = nn.Sequential(*_layers(n, first, growth), Transition(first + more))
        self.dense2 = nn.Sequential(*_layers(n, first + more, growth), Transition(last - more))
        self.dense3 = nn.Sequential(*_layers(n, last - more, growth))
        self.bn = nn.BatchNorm2d(last)
        self.linear = nn.Linear(last, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dense3(self.dense2(self.dense1(self.conv1(x))))
        return self.linear(F.relu(self.bn(x)).mean((2, 3)))


def _layers(n: int, inputs: int, growth: int) -> Iterator[DenseLayer]:
    return (DenseLayer(inputs + i * growth, growth) for i in range(n))


def densenet(
    depth: int = 40, *, growth: int = 12, width: float = 1.0, channels: int = 3, num_classes: int = 10
) -> DenseNet:
    """Return a DenseNet of 3 n + 4 layers (40), each of which adds `growth` times `width` channels.

    Raises `InputError` for other depths.

    >>> sum(parameter.numel() for parameter in densenet().parameters())
    1059298
    """
    n = blocks_of(depth, 3, 4, "DenseNet")
    return DenseNet(n, scaled(growth, width), channels=channels, num_classes=num_classes)


__all__ = ["STREAM", "DenseLayer", "DenseNet", "Transition", "densenet"]
