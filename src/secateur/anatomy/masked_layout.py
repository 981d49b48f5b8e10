"""The layout of a weight, compared with the order that patterns and scopes use: outputs, inputs, other dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class MaskedLayout:
    """The order of the dimensions of a weight.

    turned: inputs come before outputs, as in a transposed convolution. groups: the number of groups of outputs, each of
    which reads its own inputs.
    """

    turned: bool = False
    groups: int = 1

    def upright(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the weight's shape as W: (g o, i, ...), with o outputs and i inputs in each of g groups.

        Applied twice it returns the original. Vectors do not change.

        >>> import torch
        >>> MaskedLayout(turned=True, groups=2).upright(torch.zeros(2 * 4, 3, 5)).shape  # (g i, o, k)
        torch.Size([6, 4, 5])
        """
        if not self.turned or tensor.dim() < 2:
            return tensor
        return tensor.unflatten(0, (self.groups, -1)).transpose(1, 2).flatten(0, 1)


def layout_of(modules: Iterable[nn.Module]) -> MaskedLayout:
    """Return the layout of a weight that these modules share."""
    found = (MaskedLayout(_is_turned(module), _groups(module)) for module in modules)
    return next((layout for layout in found if layout != MaskedLayout()), MaskedLayout())


def _is_turned(module: nn.Module) -> bool:
    """Return whether inputs come first: transposed convolutions, and `Conv1D` of Hugging Face's GPT-2."""
    kinds = type(module).__mro__  # a masked module has its own class
    return isinstance(module, nn.modules.conv._ConvTransposeNd) or any(
        kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers.") for kind in kinds
    )


def _groups(module: nn.Module) -> int:
    return module.groups if isinstance(module, nn.modules.conv._ConvNd) else 1


__all__ = ["MaskedLayout", "layout_of"]
