"""Functions that copy tensors, or give them other memory, without traceable ops."""

from __future__ import annotations

import copy
from typing import Any

import torch

from secateur.trace.op import Op
from secateur.trace.registry import plain_form, rule
from secateur.trace.typed import beside, drop


@plain_form(torch.Tensor.__deepcopy__)
def deepcopy(tensor: torch.Tensor, memo: dict[int, Any]) -> Any:
    """x: [*a] -> [*a]; torch copies the storage, without an op on tensors"""
    if not tensor.is_leaf or tensor.layout is not torch.strided:
        return NotImplemented
    if id(tensor) not in memo:
        made = tensor.detach().clone()
        if tensor.requires_grad and not made.is_inference():
            made.requires_grad_()
        memo[id(tensor)] = made if type(made) is type(tensor) else made.as_subclass(type(tensor))
        vars(memo[id(tensor)]).update(copy.deepcopy(beside(tensor), memo))
    return memo[id(tensor)]


@rule("aten::set_")
def set_(op: Op) -> None:
    """x -> the type of the tensor whose memory it gets"""
    drop(op.outs[0])
    op.typed(op.outs[0])
