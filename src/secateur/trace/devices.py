"""The tensors that a recorded run uses: real ones, meta tensors (shapes only), or fake ones (shapes and devices)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from secateur.base.precision import wide
from secateur.errors import InputError

RUNS = ("meta", "real", "fake")


class RunDevice:
    """One kind of run. `device` is where stray tensors must be moved, or None; `lift` converts all to float64."""

    def __init__(self, run: str, *, lift: bool = False):
        assert run in RUNS, run
        assert run == "real" or not lift, run
        self.run, self.lift = run, lift
        self.device = torch.device("meta") if run == "meta" else None
        self._fake: Any = _fake_mode() if run == "fake" else None

    def running(self) -> AbstractContextManager[Any]:
        """Return the context in which the model runs."""
        return self._fake if self._fake is not None else nullcontext()

    def stand_in(self, tensor: torch.Tensor, *, shared: bool) -> torch.Tensor:
        """Return the stand-in for a tensor in this run; with `shared`, a real one may share its storage."""
        if tensor.is_nested:
            raise InputError(
                "a nested tensor cannot be traced, because its rows have sizes of their own\n"
                "pass example inputs of one size: torch.nested.to_padded_tensor(x, 0.0)"
            )
        if self.run != "real" and tensor.layout is not torch.strided:
            raise InputError(f"run={self.run!r} has no stand-in for a sparse tensor ({tensor.layout})\nuse run='real'")
        bare = wide(tensor) if self.lift else tensor.data  # writes to it do not count as writes to the model's own
        if self.device is not None:
            made = torch.empty_strided(bare.shape, bare.stride(), dtype=bare.dtype, device=self.device)
        elif self._fake is not None:
            made = self._fake.from_tensor(bare)
        else:
            made = bare if shared or self.lift else bare.clone()
        return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made


def _fake_mode() -> Any:
    from torch._subclasses.fake_tensor import FakeTensorMode  # takes seconds to import

    return FakeTensorMode(allow_non_fake_inputs=True)
