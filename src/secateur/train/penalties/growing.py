"""An L2 penalty that grows on the units that are about to be cut, until nothing is lost with them."""

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
from secateur.train.penalties.places import HeldUnits, along


class GrowingL2(Penalty):
    """strength / 2 * sum of w^2 over all that a plan drops; its gradient is strength * w.

    `strength` is `delta` at first and grows by `delta` every `every` steps of the optimizer up to `ceiling`. w: every
    number of a parameter that the cut leaves out, in whatever dimension. `attach` and `add_gradients_` count steps;
    with the loss term, call `step()` after each. Then cut by the same plan. Raises `InputError` where the plan is not
    of the graph's model, or drops nothing.

    Source: Wang et al., Neural Pruning via Growing Regularization, 2021, section 3.1 (GReg-1); the defaults are theirs
    for CIFAR.

    >>> import secateur, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    >>> graph = secateur.trace(net, torch.zeros(1, 4))
    >>> penalty = GrowingL2(graph, secateur.plan(graph, "channels=0.5"), delta=0.1, every=2, ceiling=0.25)
    >>> for _ in range(5):
    ...     print(penalty.strength, end=" ")
    ...     penalty.add_gradients_()
    0.1 0.1 0.2 0.2 0.25
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
            raise InputError("the plan drops nothing that is trained, so there is nothing that GrowingL2 could act on")

    @property
    def strength(self) -> float:
        """As it is now."""
        return min(self.delta * (self.steps // self.every + 1), self.ceiling)

    @property
    def grown(self) -> bool:
        """Whether it is at its ceiling."""
        return self.strength >= self.ceiling

    def __call__(self) -> Tensor:
        device = self.held[0].parameter.device
        sums = [(parameter.square() * mask).sum().to(device) for parameter, mask in self._pairs()]
        return self.strength / 2 * torch.stack(sums).sum()

    def _add(self, factor: float) -> None:
        for held, (parameter, mask) in zip(self.held, self._pairs(), strict=True):
            held.gradient.addcmul_(parameter, mask, value=self.strength * factor)

    def state_dict(self) -> dict[str, Any]:
        """How far it has grown, and on what: a plan made anew, of weights half-trained, would drop other units."""
        return {
            **super().state_dict(),
            "dropped": {h.name: m.bool() for h, m in zip(self.held, self._masks, strict=True)},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, on the same units."""
        super().load_state_dict(state)
        self.held = [HeldUnits.of(self.model, name) for name in state["dropped"]]
        self._masks = [mask.float() for mask in state["dropped"].values()]

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Each parameter with 1 where something is dropped and 0 elsewhere, on its device and in its type."""
        parameters = [held.parameter for held in self.held]
        self._masks = [mask.to(parameter) for mask, parameter in zip(self._masks, parameters, strict=True)]
        return list(zip(parameters, self._masks, strict=True))


def _dropped(graph: Graph, plan: Plan) -> Iterator[tuple[HeldUnits, Tensor]]:
    """Trained parameters of which a plan drops something, and where."""
    for name, site in graph.sites.items():
        if site.kind != "parameter":
            continue
        held = HeldUnits.of(graph.model, name)
        mask = torch.ones(held.shape) if inside(name, plan.removed) else _mask(held, plan)
        if held.parameter.requires_grad and mask is not None:
            yield held, mask


def _mask(held: HeldUnits, plan: Plan) -> Tensor | None:
    """1 where something is dropped, 0 elsewhere; None where nothing is."""
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
