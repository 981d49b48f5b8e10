"""The tensors of a model before and after a cut, so that optimizers and copies can replace the old by the new ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur.apply.tensors import Cutter, alike
from secateur.base.names import inside
from secateur.errors import InputError
from secateur.plan.plan import Plan


@dataclass(frozen=True, slots=True)
class Heir:
    """The tensor that replaces another one. `name` is its name in the plan; `new` is None if its block is removed."""

    name: str
    old: Tensor
    new: Tensor | None


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A parameter that recovery added, and the tensor (before the cut) after which it was made."""

    name: str
    like: Tensor
    new: Tensor


class Change:
    """The tensors before and after a cut by `plan`, each under all of its names.

    Optimizers look up their parameters in `heirs`, by the id of the old tensor, and `newcomers`. Master weights are
    added to both.
    """

    def __init__(self, before: Mapping[str, Tensor], after: Mapping[str, Tensor], plan: Plan):
        self.before, self.after, self.plan = before, after, plan
        self.cutter = Cutter(plan)
        names: dict[int, list[str]] = {}
        for name, tensor in before.items():
            names.setdefault(id(tensor), []).append(name)
        self.heirs = {key: self._heir(before[known[0]], known) for key, known in names.items()}
        self.newcomers = [Newcomer(one.name, before[one.like], after[one.name]) for one in plan.added]

    def _heir(self, old: Tensor, names: list[str]) -> Heir:
        """Return the replacement of a tensor. A plan uses one name of a shared tensor; any other keeps it."""
        name = next((n for n in names if n in self.plan.sites), names[0])
        return Heir(name, old, next((self.after[n] for n in names if n in self.after), None))

    def known_as(self, name: str) -> str:
        """Return the name in the plan of a tensor that the model has under this name."""
        return self.heirs[id(self.before[name])].name

    def recovered(self, name: str) -> bool:
        """Return whether recovery changed the values that the cut left of a tensor."""
        new = self.after[name]
        left = self._left(name)
        return left is not new and not torch.equal(left.to(new), new)

    def _left(self, name: str) -> Tensor:
        return self.cutter.weights(self.known_as(name), self.before[name])

    def weights(self, name: str, copy: Tensor) -> Tensor:
        """Cut a copy (an average, a master weight) of the tensor of this name: slice, scale and recover it.

        The amount that recovery added to a parameter is also added to its copies; recovered statistics replace theirs.
        """
        known = self.known_as(name)
        small = self.cutter.weights(known, copy)
        if not self.recovered(name):
            return small
        new, left = (t.detach().to(small.device, small.dtype) for t in (self.after[name], self._left(name)))
        if not isinstance(self.before[name], nn.Parameter):
            return alike(copy, new.clone())
        if any(known == renorm.name for renorm in self.plan.renorms):
            return alike(copy, small.detach() * torch.where(left != 0, new / left, 1.0))
        return alike(copy, small.detach() + (new - left))

    def check(self) -> None:
        """Raise `InputError` if the plan does not turn the tensors before the cut into those after it."""
        for name, old in self.before.items():
            if isinstance(old, nn.Parameter) and not inside(name, self.plan.removed):
                want, new = self._shapes(name), self.after.get(name)
                _compare(name, "model", old, want[0])
                _compare(name, "small", new, want[1])

    def _shapes(self, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shape that a tensor must have before and after."""
        known, shape = self.known_as(name), tuple(self.before[name].shape)
        sites = self.plan.sites
        return (self.plan.old_shape(known), self.plan.shape(known)) if known in sites else (shape, shape)


def _compare(name: str, where: str, tensor: Tensor | None, want: tuple[int, ...]) -> None:
    if tensor is None or tuple(tensor.shape) != want:
        raise InputError(
            f"the plan does not lead from model to small: {name}\n"
            f"  plan   {want}\n  {where}  {tuple(tensor.shape) if tensor is not None else 'has none of that name'}\n"
            "pass the model that was cut, and the result of secateur.cut(model, plan)"
        )
