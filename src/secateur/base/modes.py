"""PyTorch's modes, by which a run is watched: what watches without being compiled, and what no mode is to see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes


class UncompiledMode(TorchDispatchMode):
    """A dispatch mode under which nothing is compiled.

    PyTorch guards the handler of every other mode against the compiler, and imports that for it, which takes seconds.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


@contextmanager
def unseen() -> Iterator[None]:
    """Disable dispatch modes within this context: what runs here is not part of the model."""
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        yield


__all__ = ["UncompiledMode", "unseen"]
