"""A 784-200-200-10 perceptron on MNIST, cut to exactly [50, 100, 10] instead of masked.

Masks only set weights to zero: the network keeps its size, and to make it smaller one copies rows and columns by hand.
Here only the widths are given, and the columns of the next layer are cut along with the rows of each layer.

    secateur recipe masked-mlp --quick
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn
from typer import Option

from secateur.recipes.framework import Options, Result
from secateur.recipes.masked import MaskedCase, MaskedTraining, compare, told

NAME = "masked-mlp"
SOURCE = "the masked layers of Wang and Ding, Weights Pruning PyTorch Implementation, after Han et al., NIPS 2015"
CLAIM = "784-200-200-10 can be brought to exactly [50, 100, 10], and fine-tuning brings the accuracy back"
WIDTHS = {"linear1": 50, "linear2": 100}
"""The ten outputs are classes and are never cut."""


class MLP(nn.Module):
    """x: (n, 1, 28, 28) -> scores (n, 10)"""

    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(28 * 28, 200)
        self.linear2 = nn.Linear(200, 200)
        self.linear3 = nn.Linear(200, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear1(x.flatten(1)).relu()
        return self.linear3(self.linear2(x).relu())


def run(
    options: Options,
    *,
    data: Annotated[str, Option(help="mnist, fashion-mnist, or file.py:function with images of the same size.")] = (
        "mnist"
    ),
    epochs: Annotated[int, Option(min=1, help="Epochs of training the dense network.")] = 8,
    finetune_epochs: Annotated[int, Option(min=1, help="Epochs after the cut.")] = 4,
    batch_size: Annotated[int, Option(min=1, help="Examples per batch.")] = 64,
) -> Result:
    """Train, cut to [50, 100, 10] by several criteria, fine-tune, and compare with the small network from scratch."""
    training = MaskedTraining(data, epochs, finetune_epochs, batch_size)
    rows = compare(MaskedCase(MLP, torch.zeros(1, 1, 28, 28), WIDTHS), training, options)
    return Result(NAME, CLAIM, told(training, options, "the source publishes no figures"), rows)
