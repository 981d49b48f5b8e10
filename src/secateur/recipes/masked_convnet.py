"""A ConvNet of [32, 64, 64] channels on MNIST, cut to exactly [8, 16, 32] through the flatten.

The last convolution's 64 channels at 7 x 7 places are the 3,136 inputs of the classifier, so dropping a channel removes
49 of its columns. By hand, that index arithmetic is error-prone; here only the widths are given.

    secateur recipe masked-convnet --quick
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typer import Option

from secateur.recipes.framework import Options, Result
from secateur.recipes.masked import MaskedCase, MaskedTraining, compare, told

NAME = "masked-convnet"
SOURCE = "the masked layers of Wang and Ding, Weights Pruning PyTorch Implementation, after Han et al., NIPS 2015"
CLAIM = "convolutions of [32, 64, 64] can be brought to exactly [8, 16, 32], and fine-tuning brings the accuracy back"
WIDTHS = {"conv1": 8, "conv2": 16, "conv3": 32}


class ConvNet(nn.Module):
    """x: (n, 1, 28, 28) -> scores (n, 10), through 32 channels at 28 x 28, 64 at 14 x 14 and 64 at 7 x 7"""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 64, 3, padding=1)
        self.linear1 = nn.Linear(7 * 7 * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = F.max_pool2d(self.conv2(x).relu(), 2)
        return self.linear1(self.conv3(x).relu().flatten(1))


def run(
    options: Options,
    *,
    data: Annotated[str, Option(help="mnist, fashion-mnist, or file.py:function with images of the same size.")] = (
        "mnist"
    ),
    epochs: Annotated[int, Option(min=1, help="Epochs of training the dense network.")] = 2,
    finetune_epochs: Annotated[int, Option(min=1, help="Epochs after the cut.")] = 1,
    batch_size: Annotated[int, Option(min=1, help="Examples per batch.")] = 64,
) -> Result:
    """Train, cut to [8, 16, 32] by several criteria, fine-tune, and compare with the small network from scratch."""
    training = MaskedTraining(data, epochs, finetune_epochs, batch_size)
    rows = compare(MaskedCase(ConvNet, torch.zeros(1, 1, 28, 28), WIDTHS), training, options)
    return Result(NAME, CLAIM, told(training, options, "the source publishes no figures"), rows)
