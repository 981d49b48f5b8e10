"""Estimates the diagonal of the Hessian without computing the Hessian.

For random signs z, E[z * Hz] is the diagonal of H (Hutchinson, 1989), and Hz is the gradient of z · dL/dw, that is, the
loss differentiated twice (Pearlmutter, 1994).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from secateur.errors import PruningError
from secateur.statistics.batches import CalibrationBatch
from secateur.statistics.sums import Sums


def add_curvature(
    sums: Sums, model: nn.Module, batch: CalibrationBatch, loss: Callable[[Any, Any], Tensor], seed: str
) -> None:
    """Add z * Hz of every parameter w, with random signs by seed and name, to the sum ("w", "curvature").

    Raises `PruningError` if an op of the model cannot be differentiated twice.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad(set_to_none=True)
    try:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # fused attention is differentiated once only
            value = loss(batch.call.run(model), batch.targets)
            found = torch.autograd.grad(value, list(named.values()), create_graph=True, allow_unused=True)
            first = {name: g for name, g in zip(named, found, strict=True) if g is not None and g.requires_grad}  # type: ignore[reportUnnecessaryComparison]
            signs = {name: _signs(named[name], f"{seed} {name}") for name in first}
            # Not autograd.grad, which skips ops that cannot be differentiated twice and returns the rest.
            torch.autograd.backward(list(first.values()), list(signs.values()))
    except (RuntimeError, NotImplementedError) as error:
        raise PruningError(
            f"the loss cannot be differentiated twice: {str(error).strip().splitlines()[0]}\n"
            "choose an importance of first order, such as 'fisher' or 'taylor'"
        ) from error
    for name, z in signs.items():
        product = named[name].grad
        if product is not None:
            sums.add(name, "curvature", z * product)
    model.zero_grad(set_to_none=True)


def _signs(parameter: Tensor, seed: str) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(seed.encode()))
    signs = torch.randint(0, 2, parameter.shape, generator=generator) * 2 - 1
    return signs.to(parameter)


__all__ = ["add_curvature"]
