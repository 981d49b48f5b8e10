"""ResNets for 32 x 32 images: three stages of 16, 32 and 64 channels (He et al., CVPR 2016, section 4.2).

The shortcut has no parameters (option A): it takes every second pixel and pads channels with zeros on both sides.
Parameters are named `conv1`, `bn1`, `layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2}` and `linear`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from secateur.models.widths import blocks_of, scaled


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions; x: (b, i, h, w) -> (b, width, h / stride, w / stride)"""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.pad = stride, (width - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(_shortcut(x, self.stride, self.pad) + y)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolution; x: (b, i, h, w) -> (b, 4 width, h / stride, w / stride)"""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.stride, self.pad = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(_shortcut(x, self.stride, self.pad) + y)


def _shortcut(x: Tensor, stride: int, pad: int) -> Tensor:
    if stride > 1:
        x = x[:, :, ::stride, ::stride]
    return F.pad(x, (0, 0, 0, 0, pad, pad)) if pad else x


class ResNet(nn.Module):
    """x: (b, channels, h, w) -> logits (b, num_classes); `n` blocks per stage."""

    def __init__(
        self,
        n: int,
        *,
        block: type[ResidualBlock] | type[Bottleneck] = ResidualBlock,
        width: float = 1.0,
        channels: int = 3,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        first, second, third = (scaled(w, width) for w in (16, 32, 64))
        inner = [w * block.expansion for w in (first, second, third)]
        self.conv1 = nn.Conv2d(channels, first, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.layer1 = nn.Sequential(*_stage(block, n, first, first, 1))
        self.layer2 = nn.Sequential(*_stage(block, n, inner[0], second, 2))
        self.layer3 = nn.Sequential(*_stage(block, n, inner[1], third, 2))
        self.linear = nn.Linear(inner[2], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def _stage(
    block: type[ResidualBlock] | type[Bottleneck], n: int, inputs: int, width: int, stride: int
) -> Iterator[ResidualBlock | Bottleneck]:
    yield block(inputs, width, stride)
    for _ in range(n - 1):
        yield block(block.expansion * width, width, 1)


def cifar_resnet(
    depth: int, *, bottleneck: bool = False, width: float = 1.0, channels: int = 3, num_classes: int = 10
) -> ResNet:
    """Return a ResNet of 6 n + 2 layers (20, 56, 110), or 9 n + 2 with bottlenecks (29, 56, 110).

    `width` is a factor on the channels of the paper. Raises `InputError` for other depths.

    >>> sum(parameter.numel() for parameter in cifar_resnet(20).parameters())
    269722
    """
    each, block = (9, Bottleneck) if bottleneck else (6, ResidualBlock)
    n = blocks_of(depth, each, 2, "ResNet with bottlenecks" if bottleneck else "ResNet")
    return ResNet(n, block=block, width=width, channels=channels, num_classes=num_classes)


def resnet20() -> ResNet:
    """Return a ResNet-20 for 3 x 32 x 32 images of 10 classes."""
    return cifar_resnet(20)


def resnet56() -> ResNet:
    """Return a ResNet-56 for 3 x 32 x 32 images of 10 classes."""
    return cifar_resnet(56)


def resnet110() -> ResNet:
    """Return a ResNet-110 for 3 x 32 x 32 images of 10 classes."""
    return cifar_resnet(110)


__all__ = ["Bottleneck", "ResNet", "ResidualBlock", "cifar_resnet", "resnet20", "resnet56", "resnet110"]
