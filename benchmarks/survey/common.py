"""Code that both sides of the survey share: the models, their random weights, and the comparison of outputs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import zoo
from laws import randomized
from secateur.anatomy.calls import Call
from secateur.base.nested import tensors_in

KEPT = 0.7
TARGET = f"channels={KEPT:g}"


def subject(name: str) -> tuple[zoo.Entry, nn.Module, Call]:
    """Return a model of the zoo with random weights and (if its outputs stay finite) buffers, and its example call."""
    torch.set_num_threads(1)
    entry = zoo.find(name)
    model, call = entry.build(), entry.call()
    buffers = {key: tensor.clone() for key, tensor in model.named_buffers()}
    randomized(model)
    if not _finite(model, call):  # some buffers are constants whose root is computed
        for key, tensor in model.named_buffers():
            tensor.copy_(buffers[key])
    return entry, model, call


def _finite(model: nn.Module, call: Call) -> bool:
    with torch.no_grad():
        outputs = tensors_in(model(*call.args, **call.kwargs))
    return all(bool(torch.isfinite(t).all()) for t in outputs if t.is_floating_point())


def params_of(model: nn.Module) -> int:
    """Return the number of parameters, counting shared ones once."""
    return sum(p.numel() for p in model.parameters())


def distance(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> float:
    """Return the largest difference relative to the largest value of an output; infinite if shapes differ."""
    if len(a) != len(b) or any(x.shape != y.shape for x, y in zip(a, b, strict=True)):
        return float("inf")
    return max((_relative(x.double(), y.double()) for x, y in zip(a, b, strict=True) if x.numel()), default=0.0)


def _relative(x: torch.Tensor, y: torch.Tensor) -> float:
    scale = max(float(x.abs().max()), float(y.abs().max()), 1e-300)
    found = float((x - y).abs().max()) / scale
    return found if found == found else float("inf")


def tiny() -> tuple[nn.Module, Call]:
    """Return a tiny network, used to trigger late imports before a measurement."""
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)]
    return nn.Sequential(*layers).eval(), Call((torch.zeros(1, 3, 8, 8),))
