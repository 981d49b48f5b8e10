"""Finds the axes that are still exact if only those slices are zero that really are.

A Graph calls an axis exact if zeroing a unit's slices in all tensors silences it: each op states whether its result is
still zero (`Typed.zero`), starting from tensors whose slices are all zero. Here the model is traced again, from the
slices that really are zero. If an axis is still exact, its units with these zeros contribute nothing, so removing
them changes nothing. Flags that are not known to follow from the operands are set to False, so an axis may be missed,
but none is wrongly called dead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from secateur.errors import PruningError
from secateur.graph.graph import Graph
from secateur.trace.op import Op
from secateur.trace.recorder import Recorder
from secateur.trace.registry import FUNCTIONS, OpRule
from secateur.trace.rules import conv, linear, pointwise, reduce, shape, spatial
from secateur.trace.staging import StandIns
from secateur.trace.tracing import traced
from secateur.trace.typed import get

# Rule families whose results are zero exactly if the flags of the operands say so, except for these few ops.
TRUSTED = frozenset(family.__name__ for family in (conv, linear, pointwise, reduce, shape, spatial))
DOUBTED = frozenset({"bilinear", "aten::stack", "aten::logsumexp"})
Use = tuple[str, int]
"""The name of a tensor of the model, and one of its dimensions."""


class Zeros(Recorder):
    """A recorder whose zero flags are set only if they follow from the flags at the start."""

    def _apply(self, rule: OpRule | None, op: Op) -> None:
        super()._apply(rule, op)
        if rule is FUNCTIONS[F.batch_norm][0]:
            return _normalised(op)
        if rule is None or rule.__module__ not in TRUSTED or op.name in DOUBTED:
            for out in op.outs:
                _mark(out, [False] * out.dim())


def _normalised(op: Op) -> None:
    """Set the flags of (x - mean) / sd * scale + shift: zero if scale and shift are, or x, mean and shift."""

    def zero(name: str, dim: int = 0) -> bool:
        tensor = op[name]
        return not isinstance(tensor, torch.Tensor) or not tensor.numel() or op.zero(tensor)[dim]

    silent = op["weight"] is not None and zero("weight") and zero("bias")
    made = silent or (zero("input", 1) and zero("running_mean") and zero("bias"))
    for out in op.outs:
        _mark(out, [made and i == 1 and out.dim() > 1 for i in range(out.dim())])


def _mark(tensor: torch.Tensor, zero: Sequence[bool]) -> None:
    typed = get(tensor)
    if typed is not None:
        typed.zero = list(zero)


def still_exact(graph: Graph, flags: Mapping[Use, bool]) -> set[frozenset[Use]]:
    """Return the axes that are exact if only these slices of the tensors are zero, each as the set of its places.

    flags: for each (tensor, dimension), whether the units in question are zero there; other tensors do not contain the
    units. Returns an empty set if the model can no longer be run.
    """

    def prepare(stage: StandIns) -> None:
        for name, made in stage.stand_ins.values():
            _mark(made, [flags.get((name, dim), True) for dim in range(made.dim())])

    try:
        again, _ = traced(graph.model, graph.run.source, Zeros, prepare)
    except PruningError:
        return set()
    return {frozenset((use.name, use.dim) for use in axis.sites) for axis in again.axes if axis.inexact is None}


__all__ = ["still_exact"]
