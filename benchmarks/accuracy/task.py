"""A trained model, the data that both sides may look at, and what is measured of whatever comes out."""

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
    """What Torch-Pruning has to be told about a model.

    ignored: by the name of a choice of widths, the layers whose outputs it must leave alone. head_layers: the query,
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
    widths alone. by_macs: whether that share is one of MACs, which Torch-Pruning's ratio has to be fitted to; else it
    is one of units, which its ratio says itself.
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
        """Multiply-adds for the example, by one counter for both sides."""
        return secateur.count(model, Call.of(self.example)).macs

    def left(self, model: nn.Module) -> dict[str, float]:
        """Shares of MACs and parameters that remain."""
        now, dense = (secateur.count(m, Call.of(self.example)) for m in (model, self.model))
        return {"macs": now.macs / dense.macs, "params": now.params / dense.params}


def run(model: nn.Module, inputs: Any) -> Any:
    """Call a model with a tensor or with a mapping of keyword arguments."""
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


def has_norms(model: nn.Module) -> bool:
    """Whether it has batch norms."""
    return any(isinstance(m, _BatchNorm) for m in model.modules())


def norms_reestimated(model: nn.Module, batches: Sequence[Batch]) -> nn.Module | None:
    """A copy whose batch norms have the cumulative mean and variance of the batches; None where it has none."""
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
