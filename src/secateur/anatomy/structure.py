"""Comparison of two models: of their modules, shapes and integers, and of their outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from secateur.anatomy.holders import holders, values
from secateur.base.names import is_public


def difference(model: nn.Module, wanted: nn.Module) -> str | None:
    """Return the first difference in structure between `model` and `wanted`; None where only weights differ.

    Compared are the kinds of modules, the names and shapes of tensors, and public integers, also in tuples and lists.

    >>> difference(nn.Linear(3, 2), nn.Linear(4, 2))
    'the shape of weight is (2, 3), the plan produces (2, 4)'
    """
    for of in (_kinds, _shapes, _integers):
        have, want = dict(of(model)), dict(of(wanted))
        if of is _integers:
            have = {name: value for name, value in have.items() if name in want}  # a `forward` may count its calls
        for name in {**want, **have}:
            if have.get(name) != want.get(name):
                return f"{name} is {have.get(name, 'missing')}, the plan produces {want.get(name, 'none')}"
    return None


def _kinds(model: nn.Module) -> Iterator[tuple[str, str]]:
    return ((f"module {name!r}", type(module).__name__) for name, module in model.named_modules())


def _shapes(model: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    tensors = chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
    return ((f"the shape of {name}", tuple(tensor.shape)) for name, tensor in tensors)


def _integers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for holder in holders(model):
        for leaf, value in values(holder.owner).items():
            if is_public(leaf) and (type(value) is int or _are_integers(value)):
                yield f"{holder.module}.{holder.name(leaf)}".lstrip("."), value


def _are_integers(value: Any) -> bool:
    return type(value) in (tuple, list) and bool(value) and all(type(item) is int for item in value)


def same_infinities(x: Tensor, y: Tensor) -> bool:
    """Return whether two tensors are infinite at the same positions with the same signs, and nowhere nan."""
    if x.shape != y.shape:  # its length depends on values
        return True
    if bool(torch.isnan(x).any()) or bool(torch.isnan(y).any()):
        return False
    apart = torch.isfinite(x) & torch.isfinite(y)
    return bool((apart | (x == y)).all())


def distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Return the largest difference over the largest value, over all outputs; infinite where shapes differ."""
    if len(a) != len(b) or any(x.shape != y.shape for x, y in zip(a, b, strict=False)):
        return float("inf")
    return max((_relative(x, y) for x, y in zip(a, b, strict=True)), default=float("inf"))


def _relative(x: Tensor, y: Tensor) -> float:
    if not x.numel():
        return 0.0
    if not all(t.is_floating_point() or t.is_complex() for t in (x, y)):
        return float((x != y).double().mean())
    if not same_infinities(x, y):
        return float("inf")
    x, y = (torch.where(torch.isfinite(t), t, 0) for t in (x, y))
    scale = max(float(x.abs().max()), float(y.abs().max()), 1e-300)
    return float((x - y).abs().max()) / scale
