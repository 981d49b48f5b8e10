"""The table of networks, and what each network says about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

IMAGE = (1, 3, 8, 8)
TOKENS = (2, 5, 6)
IDS = torch.tensor([[1, 4, 0], [6, 2, 2]])


@dataclass(frozen=True)
class Net:
    """`axes`: size by name. `frozen`: part of the reason by `parameter[dim]`. `macs`: of one call on `inputs`."""

    build: Callable[[], nn.Module]
    inputs: tuple[Any, ...]
    axes: Mapping[str, int]
    params: int
    macs: int
    frozen: Mapping[str, str] = field(default_factory=dict)
    unreached: Sequence[str] = ()
    unknown: Sequence[str] = ()
    inexact: Sequence[str] = ()  # names of axes

    def make(self, seed: int = 0) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.build().eval()
            for name, buffer in model.named_buffers():
                if buffer.is_floating_point():
                    buffer.copy_(torch.rand_like(buffer) + 0.5 if "var" in name else torch.randn_like(buffer))
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.data.normal_(1.0, 0.5)
        return model

    def example(self, seed: int = 1) -> tuple[Any, ...]:
        """Inputs: shapes become normal tensors, everything else is passed unchanged."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(torch.randn(i, generator=generator) if isinstance(i, torch.Size) else i for i in self.inputs)


NETS: dict[str, Net] = {}


def net(
    name: str, inputs: Sequence[Any], **expected: Any
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Register a function that builds a module."""

    def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        assert name not in NETS, name
        NETS[name] = Net(build, tuple(torch.Size(i) if isinstance(i, tuple) else i for i in inputs), **expected)
        return build

    return register
