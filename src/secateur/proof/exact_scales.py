"""The tensors of a cut model with the scales that the plan folds into them unrounded."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from secateur.anatomy.slots import slots
from secateur.apply.tensors import Cutter
from secateur.base.precision import wide
from secateur.plan.plan import Plan
from secateur.proof.ondemand import Fill


def exactly_scaled(model: nn.Module, small: nn.Module, plan: Plan) -> Fill:
    """Return a function that writes the tensors of a cut model.

    Folded scales were rounded to the model's precision. Where a tensor agrees with the exact values up to this
    rounding, the exact values are written.
    """
    scaled = {*(scale.name for scale in plan.scales), *(renorm.name for renorm in plan.renorms)}
    names = {id(slot.tensor): slot.name for slot in slots(small) if slot.name in scaled}
    exact = _Exact(model, plan)

    def fill(tensor: Tensor, into: Tensor) -> None:
        into.copy_(tensor.detach())
        if id(tensor) in names:
            unrounded, rounding = exact.of(names[id(tensor)]), 4 * torch.finfo(tensor.dtype).eps
            alike = unrounded.shape == tensor.shape
            if alike and torch.allclose(tensor.detach(), unrounded.to(tensor.dtype), rtol=rounding, atol=0.0):
                into.copy_(unrounded)

    return fill


class _Exact:
    """The values, in float64, of the tensors that a plan scales."""

    def __init__(self, model: nn.Module, plan: Plan):
        self.renorms = {renorm.name: renorm for renorm in plan.renorms}
        self.slots = {slot.name: slot for slot in slots(model)}
        self.plan, self.cutter = plan, Cutter(plan)

    def of(self, name: str) -> Tensor:
        """Return the values of one tensor."""
        made, renorm = self.cutter.exact(name, self.slots[name].tensor), self.renorms.get(name)
        if renorm is None:
            return made
        whole = self.slots[renorm.of].tensor
        return made * self.cutter.left(renorm.of, wide(whole), self.cutter.exact(renorm.of, whole), renorm.dim)


__all__ = ["exactly_scaled"]
