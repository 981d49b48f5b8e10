"""`transplant_error`: check that an optimizer continues after a cut as if the dropped units had never been there.

The law: train, cut, train must give the same weights as train, then train under masks. A mask keeps the slices of
dropped units at zero, at every site, and their gradients too. The law holds for elementwise optimizers, and for plans
that fold no factors into weights and drop no units that a norm averages over.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur.anatomy.slots import slots
from secateur.apply.surgery import cut
from secateur.apply.transplant import transplant
from secateur.base.text import listed
from secateur.errors import InputError
from secateur.plan.plan import Plan

ROUNDING = 1e-12  # gradients below this are zero up to rounding; some optimizers step by their sign

Make = Callable[[Iterable[nn.Parameter]], Optimizer]
Follow = Callable[[Optimizer, nn.Module, nn.Module], Any]


def transplant_error(
    model: nn.Module,
    plan: Plan,
    make: Make,
    loss: Callable[[nn.Module], Tensor],
    *,
    before: int = 3,
    after: int = 3,
    follow: Follow = transplant,
) -> float:
    """Return how far training after a cut differs from training under masks, which should be the same.

    Args:
        model: The model to train; a copy is trained, in float64.
        plan: The cut.
        make: A function from parameters to an optimizer, which must be elementwise.
        loss: A deterministic function from a model to its loss.
        before: The number of steps before the cut. Default: 3.
        after: The number of steps after the cut. Default: 3.
        follow: A function (optimizer, model, small) that moves the optimizer from a model to the model that was cut
            from it. Default: `secateur.transplant`.

    Returns:
        The L2 distance of the kept weights from the weights under masks, divided by the distance that training moved
        these after the cut: about 1e-15 for an optimizer that is moved correctly.

    Raises:
        InputError: The plan folds factors into weights, or training under masks does not move the weights or makes them
            not finite.

    Example:
        >>> import secateur
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> plan, x = secateur.plan(secateur.trace(net, torch.zeros(1, 4)), "channels=0.5"), torch.ones(3, 4).double()
        >>> transplant_error(net, plan, torch.optim.Adam, lambda net: net(x).square().mean()) < 1e-10
        True
    """
    _check_lawful(plan)
    runs = [_Run(model, make, loss) for _ in range(2)]
    for run in runs:
        run.train(before)
    one, other = runs
    masks = _Masks(other.model, plan)
    small = cut(one.model, plan)
    follow(one.optimizer, one.model, small)
    one.model = small
    masks.hold()
    start = masks.kept()
    one.train(after)
    other.train(after, masks)
    moved = _distance(start, masks.kept())
    if not 0 < moved < math.inf:
        raise InputError(f"under masks training moved the weights by {moved}, so there is nothing to compare with")
    return _distance(dict(small.named_parameters()), masks.kept()) / moved


def _check_lawful(plan: Plan) -> None:
    folded = [one.name for one in (*plan.scales, *plan.renorms)]
    if folded:
        raise InputError(
            f"the plan folds factors into weights, which then train differently than under masks: {listed(folded, 3)}"
            "\nthe law does not cover this; try a plan that keeps the units of these: select=Select(protect=...)"
        )


class _Run:
    """A model and its optimizer, always trained on the same loss."""

    def __init__(self, model: nn.Module, make: Make, loss: Callable[[nn.Module], Tensor]):
        self.model = copy.deepcopy(model).double().train()
        self.optimizer, self._loss = make(self.model.parameters()), loss

    def train(self, steps: int, masks: _Masks | None = None) -> None:
        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = self._loss(self.model)
            loss.backward()
            for parameter in self.model.parameters():
                _clean(parameter.grad)
            if masks is not None:
                masks.hold_gradients()
            return loss

        for _ in range(steps):
            self.optimizer.step(closure)  # type: ignore[arg-type]
            if masks is not None:
                masks.hold()


def _clean(gradient: Tensor | None) -> None:
    if gradient is not None:
        values = gradient._values() if gradient.is_sparse else gradient
        values[values.abs() < ROUNDING] = 0.0


class _Masks:
    """Holds the slices of dropped units at zero in a model that still has them."""

    def __init__(self, model: nn.Module, plan: Plan):
        self._plan, self._parameters = plan, dict(model.named_parameters())
        tensors = {slot.name: slot.tensor for slot in slots(model)}
        self._masks = [(tensors[name], self._mask(name, tensors[name])) for name in plan.sites]

    def _mask(self, name: str, tensor: Tensor) -> Tensor:
        mask = torch.ones_like(tensor, requires_grad=False)
        for dim, kept in enumerate(self._plan.positions(name)):
            if kept is not None:
                along = torch.zeros(tensor.shape[dim], dtype=tensor.dtype)
                along[kept] = 1
                mask *= along.view([-1 if d == dim else 1 for d in range(tensor.dim())])
        return mask

    @torch.no_grad()
    def hold(self) -> None:
        for tensor, mask in self._masks:
            tensor.mul_(mask)

    def hold_gradients(self) -> None:
        for tensor, mask in self._masks:
            if tensor.grad is not None:
                tensor.grad = tensor.grad * mask

    def kept(self) -> dict[str, Tensor]:
        """Return the current values of the parameters that the cut model has, in its shapes."""
        return {name: self._kept(name, p.detach().clone()) for name, p in self._parameters.items()}

    def _kept(self, name: str, tensor: Tensor) -> Tensor:
        for dim, kept in enumerate(self._plan.positions(name) if name in self._plan.sites else ()):
            tensor = tensor if kept is None else tensor.index_select(dim, torch.tensor(kept))
        return tensor


def _distance(a: dict[str, Any], b: dict[str, Tensor]) -> float:
    return sum(float((a[name].detach() - b[name]).square().sum()) for name in a) ** 0.5


__all__ = ["transplant_error"]
