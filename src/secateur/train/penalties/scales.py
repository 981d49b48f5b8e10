"""L1 on the scales of norms, which makes many of them zero: network slimming."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from secateur.errors import InputError
from secateur.graph.graph import Graph
from secateur.planning.selection.select import SelectLike
from secateur.train.penalties.penalty import Penalty, check_strength
from secateur.train.penalties.places import HeldUnits, UnitPlace, along, chosen, places_of


class ScaleL1(Penalty):
    """strength * sum |gamma| over the scales of norms on prunable axes; its gradient is strength * sign(gamma).

    gamma: (c,) of batch norm, layer norm and the like, one for each unit. At zero the subgradient 0 is taken. `select`:
    which axes, in the words of `secateur.plan`. Raises `InputError` where no norm scales any of them.

    Source: Liu et al., Learning Efficient Convolutional Networks through Network Slimming, 2017, eq. 1 and section 3.

    >>> import secateur, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 2, 3))
    >>> penalty = ScaleL1(secateur.trace(net, torch.zeros(1, 3, 8, 8)), 0.01)
    >>> penalty.add_gradients_()
    >>> net[1].weight.grad[0], net[0].weight.grad
    (tensor(0.0100), None)
    """

    def __init__(self, graph: Graph, strength: float, select: SelectLike = None):
        places = [place for axis in chosen(graph, select) for place in places_of(graph, axis) if place.role == "scale"]
        self.model, self.strength = graph.model, check_strength("strength", strength)
        if not places:
            raise InputError(
                "no norm scales any of these axes, so there is nothing that ScaleL1 could act on\n"
                "GroupLasso(graph, strength) acts on weights, and needs no norm"
            )
        masks = _masks(places)
        self.held, self._masks = list(masks), list(masks.values())

    def __call__(self) -> Tensor:
        device = self.held[0].parameter.device
        sums = [values.sum().to(device) for values in self._masked(torch.abs)]
        return self.strength * torch.stack(sums).sum()

    def _add(self, factor: float) -> None:
        for held, signs in zip(self.held, self._masked(torch.sign), strict=True):
            held.gradient.add_(signs, alpha=self.strength * factor)

    def _masked(self, function: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """A function of each parameter where units lie, and zeros elsewhere."""
        values = [function(held.parameter) for held in self.held]
        self._masks = [m if m is None else m.to(v.device) for m, v in zip(self._masks, values, strict=True)]
        return [v if m is None else v * m for m, v in zip(self._masks, values, strict=True)]


def _masks(places: list[UnitPlace]) -> dict[HeldUnits, Tensor | None]:
    """Each scale with the places, along its dimensions, of all units on it; None where they are everywhere."""
    found: dict[HeldUnits, Tensor] = {}
    for place in places:
        shape = place.held.shape
        mask = found.setdefault(place.held, torch.zeros(shape, dtype=torch.bool))
        on = torch.zeros(shape[place.dim], dtype=torch.bool)
        on[place.positions.flatten()] = True
        mask |= along(on, place.dim, len(shape))
    return {held: None if bool(mask.all()) else mask for held, mask in found.items()}


__all__ = ["ScaleL1"]
