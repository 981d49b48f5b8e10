"""A small residual CNN for MNIST, and the model of the demo.

secateur prune examples/mnist_net.py:build --weights w.safetensors --input 1x1x28x28 --data mnist --target macs=0.4
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut. x: (n, i, h, w) -> (n, o, h / stride, w / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        project = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.shortcut = nn.Identity() if same else nn.Sequential(project, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class MnistNet(nn.Module):
    """x: (n, 1, 28, 28) -> scores (n, num_classes): a strided stem, then 24, 48 and 96 channels at 14, 7 and 4."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.stage1 = Block(24, 24, 1)
        self.stage2 = Block(24, 48, 2)
        self.stage3 = Block(48, 96, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(96, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        return self.head(self.pool(x).flatten(1))


def build(num_classes: int = 10) -> nn.Module:
    """Return the network with random weights."""
    return MnistNet(num_classes)
