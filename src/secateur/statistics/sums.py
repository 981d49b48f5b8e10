"""The values that calibration collects: sums by parameter or axis, and which statistics there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

Loss: TypeAlias = "Callable[[Any, Any], Tensor]"

NEEDS = {
    "moments": "sums over what each weight reads, channel by channel",
    "gram": "second moments of what each weight reads",
    "gates": "derivatives of the loss by a factor on each unit, example by example",
    "gradients": "gradients of parameters",
    "curvature": "the Hessian's diagonal, estimated",
}

NEED_LOSS = frozenset({"gates", "gradients", "curvature"})
"""What cannot be collected without a loss."""

PLACES = 64
"""Of an image or a sequence so many places are looked at for second moments, drawn at random."""


@dataclass(frozen=True)
class Statistics:
    """Sums over calibration data by (name, quantity); see `secateur.statistics.collectors` for what these are."""

    examples: int
    batches: int
    needs: frozenset[str]
    sums: Mapping[tuple[str, str], Tensor] = field(repr=False)

    def get(self, name: str, quantity: str) -> Tensor | None:
        """A sum, or None where nothing of it was recorded."""
        return self.sums.get((name, quantity))


Key: TypeAlias = "tuple[str, str]"


class Sums(dict[Key, Tensor]):
    """Sums in float64 on the CPU, by name and quantity."""

    def add(self, name: str, quantity: str, value: Tensor | float) -> None:
        value = torch.as_tensor(value).detach().to("cpu", torch.float64)
        held = self.get((name, quantity))
        self[name, quantity] = value.clone() if held is None else held.add_(value)
