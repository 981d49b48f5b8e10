"""A trained model, the data that both sides may use, and the measures of a cut model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import secateur
from secateur.anatomy.calls import Call

Batch: TypeAlias = "tuple[Any, Tensor]"


@dataclass(frozen=True, slots=True)
class Hints:
    """The hints that Torch-Pruning needs for a model.

    ignored: by the name of a choice of widths, the layers whose outputs it must not prune. heads: the query,
    key and value projections with their number of heads. repair: sets the attributes that `forward` reads, given the
    cut model and the heads left in each of these layers by name.
    """

    ignored: Mapping[str, Sequence[str]]
    heads: Mapping[str, int] = field(default_factory=dict)
    repair: Callable[[nn.Module, Mapping[str, int]], None] | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One model with its data; `batches` are the calibration images or texts with their labels.

    `inputs` of a batch are a tensor or a mapping of keyword arguments. evaluate: measures of a model, larger is
    better. wanted: the target of a share that remains, as arguments of `secateur.plan`. inner: its rules for inner
    widths alone. by_macs: whether that share is one of MACs, to which Torch-Pruning's ratio is fitted; otherwise it is
    one of units, which is its ratio.
    """

    name: str
    model: nn.Module
    example: Any
    batches: Sequence[Batch]
    loss: Callable[[Any, Tensor], Tensor]
    evaluate: Callable[[nn.Module], dict[str, float]]
    hints: Hints
    seed: int = 0
    wanted: Callable[[float], dict[str, Any]] = lambda share: {"target": f"macs={share}"}
    inner: Sequence[str] = ()
    by_macs: bool = True

    def macs(self, model: nn.Module) -> int:
        """Return the MACs of the example, by the same counter for both sides."""
        return secateur.count(model, Call.of(self.example)).macs

    def left(self, model: nn.Module) -> dict[str, float]:
        """Return the shares of MACs and parameters that remain."""
        now, dense = (secateur.count(m, Call.of(self.example)) for m in (model, self.model))
        return {"macs": now.macs / dense.macs, "params": now.params / dense.params}


def run(model: nn.Module, inputs: Any) -> Any:
    """Call a model with a tensor or with a mapping of keyword arguments."""
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


def has_norms(model: nn.Module) -> bool:
    """Return whether the model has batch norms."""
    return any(isinstance(m, _BatchNorm) for m in model.modules())


def norms_reestimated(model: nn.Module, batches: Sequence[Batch]) -> nn.Module | None:
    """Return a copy whose batch norms have the mean and variance of the batches, or None if it has no batch norms."""
    model = copy.deepcopy(model)
    if not has_norms(model):
        return None
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.eval()
    for norm in norms:
        norm.train()
    with torch.no_grad():
        for inputs, _ in batches:
            run(model, inputs)
    return model.eval()
