"""A model of the zoo: how it is built and called, and which outputs are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from secateur.anatomy.calls import Call


@dataclass(frozen=True, slots=True)
class Entry:
    """`maker` builds the model, `inputs` its example call; both are run under a fixed seed.

    `raw` is for models whose outputs are selected by value (detectors, after non-maximum suppression): it turns a model
    into one that computes on the same inputs what is selected from, under the same parameter names.
    """

    name: str
    family: str
    maker: Callable[[], nn.Module]
    inputs: Callable[[], Call]
    raw: Callable[[nn.Module], nn.Module] | None = None

    @property
    def source(self) -> str:
        """torchvision, timm or hf."""
        return self.name.partition(":")[0]

    def build(self) -> nn.Module:
        """Return the model with seeded random weights, in evaluation mode."""
        torch.manual_seed(0)
        return self.maker().eval()

    def call(self) -> Call:
        """Return the example call."""
        torch.manual_seed(1)
        return self.inputs()


def image(*shape: int) -> Callable[[], Call]:
    """Return a call with one random tensor of this shape."""
    return lambda: Call((torch.randn(*shape),))
