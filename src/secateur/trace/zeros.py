"""Which axes would stay exact if no more of a model's tensors were zero than really is.

A Graph calls an axis exact when zeroing a unit's slices everywhere silences it: along the way each op says whether what
it gives is still zero (`Typed.zero`), starting from tensors of which all slices are zero. Here the model is traced
again, starting from what is true: where an axis is still exact, units with just these zeros add nothing to anything,
and dropping them changes nothing. Flags that are not known to follow from their operands are taken for false, so an
axis may be missed, and none is called dead that is not.
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

# Rules whose results are zero where their operands say so, but for these few.
TRUSTED = frozenset(family.__name__ for family in (conv, linear, pointwise, reduce, shape, spatial))
DOUBTED = frozenset({"bilinear", "aten::stack", "aten::logsumexp"})
Use = tuple[str, int]
"""A tensor of the model and a dimension of it."""


class Zeros(Recorder):
    """A recorder that believes in zeros only where they follow from what it was started with."""

    def _apply(self, rule: OpRule | None, op: Op) -> None:
        super()._apply(rule, op)
        if rule is FUNCTIONS[F.batch_norm][0]:
            return _normalised(op)
        if rule is None or rule.__module__ not in TRUSTED or op.name in DOUBTED:
            for out in op.outs:
                _mark(out, [False] * out.dim())


def _normalised(op: Op) -> None:
    """(x - mean) / sd * scale + shift is zero where scale and shift are, or x, mean and shift."""

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
    """The axes, by the places in which they occur, that are exact when the tensors of the model are zero only so.

    flags: for each (tensor, dimension), whether the units in question have nothing but zeros there; those that are not
    named hold none of them. Gives nothing where the model can no longer be run.
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
