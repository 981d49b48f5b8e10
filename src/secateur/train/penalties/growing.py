"""An L2 penalty that grows on the units that a plan drops, so that they are near zero when they are cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from secateur.base.names import inside
from secateur.errors import InputError
from secateur.graph.graph import Graph
from secateur.plan.plan import Plan, needs_plan
from secateur.train.penalties.penalty import Penalty, check_strength
from secateur.train.penalties.places import HeldUnits, along, check_real


class GrowingL2(Penalty):
    """A growing L2 penalty: strength / 2 * sum of w^2 over all weights that a plan drops; its gradient is strength * w.

    w are all numbers of parameters that the cut removes, in any dimension. `attach` and `add_gradients_` count steps;
    with the loss term, call `step()` after each step of the optimizer. Afterwards cut by the same plan.

    Args:
        graph: A trace of the model that is trained.
        plan: What will be cut.
        delta: The strength at first, and by how much it grows. Default: 1e-4.
        every: The number of optimizer steps between two increases. Default: 10.
        ceiling: The largest strength. Default: 1.0.

    Raises:
        InputError: The plan is not of the graph's model or drops nothing that is trained, or a number is out of range.

    Example:
        >>> import secateur, torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        >>> graph = secateur.trace(net, torch.zeros(1, 4))
        >>> penalty = GrowingL2(graph, secateur.plan(graph, "channels=0.5"), delta=0.1, every=2, ceiling=0.25)
        >>> for _ in range(5):
        ...     print(penalty.strength, end=" ")
        ...     penalty.add_gradients_()
        0.1 0.1 0.2 0.2 0.25

    Reference:
        Wang et al., Neural Pruning via Growing Regularization, ICLR 2021, section 3.1 (GReg-1); the defaults are theirs
        for CIFAR.
    """

    def __init__(self, graph: Graph, plan: Plan, *, delta: float = 1e-4, every: int = 10, ceiling: float = 1.0):
        needs_plan(plan)
        if type(every) is not int or every < 1:
            raise InputError(f"every={every!r}; give a whole number of steps, from 1 up")
        self.model, self.every = graph.model, every
        self.delta, self.ceiling = check_strength("delta", delta), check_strength("ceiling", ceiling)
        dropped = dict(_dropped(graph, plan))
        self.held, self._masks = list(dropped), list(dropped.values())
        if not self.held:
            raise InputError("the plan drops nothing that is trained, so GrowingL2 has nothing to act on")

    @property
    def strength(self) -> float:
        """The current strength."""
        return min(self.delta * (self.steps // self.every + 1), self.ceiling)

    @property
    def grown(self) -> bool:
        """Whether the strength has reached its ceiling."""
        return self.strength >= self.ceiling

    def __call__(self) -> Tensor:
        device = self.held[0].parameter.device
        sums = [(parameter.square() * mask).sum().to(device) for parameter, mask in self._pairs()]
        return self.strength / 2 * torch.stack(sums).sum()

    def _add(self, factor: float) -> None:
        for held, (parameter, mask) in zip(self.held, self._pairs(), strict=True):
            held.gradient.addcmul_(parameter, mask, value=self.strength * factor)

    def state_dict(self) -> dict[str, Any]:
        """Return the count of steps and the dropped units: a new plan, on the trained weights, could drop others."""
        return {
            **super().state_dict(),
            "dropped": {h.name: m.bool() for h, m in zip(self.held, self._masks, strict=True)},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned, on the same units."""
        super().load_state_dict(state)
        self.held = [HeldUnits.of(self.model, name) for name in state["dropped"]]
        self._masks = [mask.float() for mask in state["dropped"].values()]

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Return each parameter with a mask, 1 at dropped numbers and 0 elsewhere, on its device and in its dtype."""
        parameters = [held.parameter for held in self.held]
        self._masks = [mask.to(parameter) for mask, parameter in zip(self._masks, parameters, strict=True)]
        return list(zip(parameters, self._masks, strict=True))


def _dropped(graph: Graph, plan: Plan) -> Iterator[tuple[HeldUnits, Tensor]]:
    """Yield the trained parameters of which a plan drops something, each with a mask of what it drops."""
    for name, site in graph.sites.items():
        if site.kind != "parameter":
            continue
        held = HeldUnits.of(graph.model, name)
        mask = torch.ones(held.shape) if inside(name, plan.removed) else _mask(held, plan)
        if held.parameter.requires_grad and mask is not None:
            check_real(held)
            yield held, mask


def _mask(held: HeldUnits, plan: Plan) -> Tensor | None:
    """Return a mask, 1 at dropped numbers and 0 elsewhere; None if none are dropped."""
    if held.name not in plan.sites:
        return None
    if plan.old_shape(held.name) != tuple(held.shape):
        raise InputError(
            f"the plan is not of this model: {held.name}\n"
            f"  plan   {plan.old_shape(held.name)}\n  model  {tuple(held.shape)}\n"
            "make a plan on a trace of the model as it is now"
        )
    kept = torch.ones(held.shape)
    for dim, positions in enumerate(plan.positions(held.name)):
        if positions is not None:
            here = torch.zeros(held.shape[dim])
            here[positions] = 1.0
            kept *= along(here, dim, kept.dim())
    return None if bool(kept.all()) else 1.0 - kept


__all__ = ["GrowingL2"]
