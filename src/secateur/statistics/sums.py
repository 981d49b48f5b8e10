"""The result of a calibration: sums by parameter or axis, and the names of the statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

Loss: TypeAlias = "Callable[[Any, Any], Tensor]"

NEEDS = {
    "moments": "sums over the input of each weight, per channel",
    "gram": "second moments of the input of each weight",
    "gates": "derivatives of the loss by a factor on each unit, per example",
    "gradients": "gradients of parameters",
    "curvature": "an estimate of the diagonal of the Hessian",
}

NEED_LOSS = frozenset({"gates", "gradients", "curvature"})
"""The statistics that need a loss."""

PLACES = 64
"""The number of positions per image or sequence that are sampled at random for second moments."""


@dataclass(frozen=True)
class Statistics:
    """Sums over calibration data by (name, quantity); `secateur.statistics.collectors` defines the quantities.

    Attributes:
        examples: the number of examples.
        batches: the number of batches.
        needs: the names of the statistics that were collected.
        sums: the sums, by the name of a parameter or axis and the quantity; float64 on the CPU.
    """

    examples: int
    batches: int
    needs: frozenset[str]
    sums: Mapping[tuple[str, str], Tensor] = field(repr=False)

    def get(self, name: str, quantity: str) -> Tensor | None:
        """Return one sum.

        Args:
            name: the name of a parameter or axis.
            quantity: the quantity, such as "count".

        Returns:
            The sum, or None if nothing was recorded.
        """
        return self.sums.get((name, quantity))


Key: TypeAlias = "tuple[str, str]"


class Sums(dict[Key, Tensor]):
    """Sums in float64 on the CPU, by name and quantity."""

    def add(self, name: str, quantity: str, value: Tensor | float) -> None:
        value = torch.as_tensor(value).detach().to("cpu", torch.float64)
        held = self.get((name, quantity))
        self[name, quantity] = value.clone() if held is None else held.add_(value)
