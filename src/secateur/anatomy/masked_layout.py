"""How a weight lies in memory, against the order that patterns and scopes speak of: outputs, inputs, and the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class MaskedLayout:
    """turned: inputs come before outputs, as in a transposed convolution. groups: so many parts of the outputs read
    parts of the inputs of their own."""

    turned: bool = False
    groups: int = 1

    def upright(self, tensor: Tensor) -> Tensor:
        """A tensor of the weight's shape as W: (g o, i, ...), o outputs and i inputs to each of g groups.

        The way back is the same. Vectors lie as they are.

        >>> import torch
        >>> MaskedLayout(turned=True, groups=2).upright(torch.zeros(2 * 4, 3, 5)).shape  # (g i, o, k)
        torch.Size([6, 4, 5])
        """
        if not self.turned or tensor.dim() < 2:
            return tensor
        return tensor.unflatten(0, (self.groups, -1)).transpose(1, 2).flatten(0, 1)


def layout_of(modules: Iterable[nn.Module]) -> MaskedLayout:
    """That of a weight in these modules, which share it."""
    found = (MaskedLayout(_is_turned(module), _groups(module)) for module in modules)
    return next((layout for layout in found if layout != MaskedLayout()), MaskedLayout())


def _is_turned(module: nn.Module) -> bool:
    """Transposed convolutions, and the `Conv1D` of Hugging Face's GPT-2, a linear layer stored the other way round."""
    kinds = type(module).__mro__  # a masked module has a class of its own
    return isinstance(module, nn.modules.conv._ConvTransposeNd) or any(
        kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers.") for kind in kinds
    )


def _groups(module: nn.Module) -> int:
    return module.groups if isinstance(module, nn.modules.conv._ConvNd) else 1


__all__ = ["MaskedLayout", "layout_of"]
