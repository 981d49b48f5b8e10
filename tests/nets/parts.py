"""A module made of given parts and of a function that runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Parts(nn.Module):
    """Modules, parameters, buffers (tensors whose name starts with `buffer`) and numbers, and a function of them."""

    def __init__(self, run: Callable[..., Any], **parts: Any):
        super().__init__()
        self._run = run
        for name, part in parts.items():
            if isinstance(part, Tensor) and name.startswith("buffer"):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(self, *args, **kwargs)
