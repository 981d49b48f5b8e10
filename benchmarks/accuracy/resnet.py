"""ResNets for 32 x 32 images (He 2016, section 4.2): three stages of 16, 32 and 64 channels, 6 n + 2 layers.

The shortcut has no parameters (option A): it takes every second pixel and pads channels with zeros on both sides.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3 x 3 convolutions; x: (b, i, h, w) -> (b, o, h / stride, w / stride)"""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.pad = stride, (width - width_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(x + y)


class ResNet(nn.Module):
    """`n` blocks a stage: 3 for ResNet-20, 9 for ResNet-56. x: (b, 3, 32, 32) -> logits (b, 10)"""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(n, 16, 16, 1)
        self.layer2 = _stage(n, 16, 32, 2)
        self.layer3 = _stage(n, 32, 64, 2)
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def _stage(n: int, width_in: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Block(width_in, width, stride), *(Block(width, width, 1) for _ in range(n - 1)))
