"""An L1 penalty on the scales of norms, which drives many of them to zero: network slimming."""

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
    """The L1 penalty strength * sum |gamma| over norm scales on prunable axes; its gradient is strength * sign(gamma).

    gamma: (c,) is the weight of a batch norm, layer norm or the like, one number per unit. The subgradient at zero is
    zero.

    Args:
        graph: A trace of the model that is trained.
        strength: The factor of the penalty, 0 or above.
        select: Which axes; see `secateur.plan`. Default: None, all.

    Raises:
        InputError: No norm scales any of these axes, or `strength` is out of range.

    Example:
        >>> import secateur, torch
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 2, 3))
        >>> penalty = ScaleL1(secateur.trace(net, torch.zeros(1, 3, 8, 8)), 0.01)
        >>> penalty.add_gradients_()
        >>> net[1].weight.grad[0], net[0].weight.grad
        (tensor(0.0100), None)

    Reference:
        Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017, eq. 1 and section 3.
    """

    def __init__(self, graph: Graph, strength: float, select: SelectLike = None):
        places = [place for axis in chosen(graph, select) for place in places_of(graph, axis) if place.role == "scale"]
        self.model, self.strength = graph.model, check_strength("strength", strength)
        if not places:
            raise InputError(
                "no norm scales any of these axes, so ScaleL1 has nothing to act on\n"
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
        """Return a function of each parameter at the positions of units, and zeros elsewhere."""
        values = [function(held.parameter) for held in self.held]
        self._masks = [m if m is None else m.to(v.device) for m, v in zip(self._masks, values, strict=True)]
        return [v if m is None else v * m for m, v in zip(self._masks, values, strict=True)]


def _masks(places: list[UnitPlace]) -> dict[HeldUnits, Tensor | None]:
    """Return each scale with a mask of the positions that have units; None if all of them have."""
    found: dict[HeldUnits, Tensor] = {}
    for place in places:
        shape = place.held.shape
        mask = found.setdefault(place.held, torch.zeros(shape, dtype=torch.bool))
        on = torch.zeros(shape[place.dim], dtype=torch.bool)
        on[place.positions.flatten()] = True
        mask |= along(on, place.dim, len(shape))
    return {held: None if bool(mask.all()) else mask for held, mask in found.items()}


__all__ = ["ScaleL1"]
