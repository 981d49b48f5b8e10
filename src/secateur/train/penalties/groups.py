"""Group lasso over all parameters of a unit, so that whole units go to zero together."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from secateur.errors import InputError
from secateur.graph.graph import Graph
from secateur.planning.selection.select import SelectLike
from secateur.train.penalties.penalty import Penalty, check_strength
from secateur.train.penalties.places import HeldUnits, UnitPlace, along, chosen, places_of


class GroupLasso(Penalty):
    """The group lasso: strength * sum over axes, sqrt(size of a unit) * sum over units i, ||w_i||_2.

    w_i are all numbers that belong to unit i, in every parameter on its axis: the rows that produce it, with bias, norm
    scale and shift, and the columns that read it; size is how many numbers these are. The gradient is
    strength * sqrt(size) * w / ||w_i||, and zero for a unit that is zero. A number where two dimensions of a parameter
    are on the same axis belongs to both of its units.

    Args:
        graph: A trace of the model that is trained.
        strength: The factor of the penalty, 0 or above.
        select: Which axes; see `secateur.plan`. Default: None, all.

    Raises:
        InputError: No parameter of these axes is trained, or `strength` is out of range.

    Example:
        >>> import secateur, torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3, bias=False), torch.nn.Linear(3, 2, bias=False))
        >>> for layer in net:
        ...     _ = torch.nn.init.ones_(layer.weight)
        >>> GroupLasso(secateur.trace(net, torch.zeros(1, 2)), 1.0)().item()  # 3 units of 4 ones: 3 * sqrt(4) * 2
        12.0

    Reference:
        Yuan and Lin, Model selection and estimation in regression with grouped variables, JRSS B 2006, eq. 2.1, with
        their weights sqrt(p_j); for filters and channels Wen et al., Learning Structured Sparsity, NIPS 2016, eq. 2.
    """

    def __init__(self, graph: Graph, strength: float, select: SelectLike = None):
        axes = [places for axis in chosen(graph, select) if (places := places_of(graph, axis))]
        self.model, self.strength = graph.model, check_strength("strength", strength)
        if not axes:
            raise InputError("no parameter of these axes is trained; set requires_grad on those that should be")
        self._units = _Units.of(axes)
        self.held = [sums.held for sums in self._units.sums]

    def __call__(self) -> Tensor:
        squares, roots, _ = self._squares()
        some = squares > 0  # the root has no derivative at zero
        return self.strength * (torch.where(some, squares, 1.0).sqrt() * some * roots).sum()

    def _add(self, factor: float) -> None:
        squares, roots, units = self._squares()
        pull = torch.where(squares > 0, roots * squares.clamp_min(torch.finfo(squares.dtype).tiny).rsqrt(), 0.0)
        pull *= self.strength * factor
        by_position = pull.new_zeros(units.length).index_add_(0, units.positions, pull[units.units])
        for sums in units.sums:
            sums.pull(by_position)

    def _squares(self) -> tuple[Tensor, Tensor, _Units]:
        """Return ||w_i||^2 and sqrt(size) of every unit of every axis."""
        self._units = units = self._units.on(self.held[0].parameter.device)
        by_position = torch.cat([part for sums in units.sums for part in sums.squares(units.positions.device)])
        squares = by_position.new_zeros(len(units.roots)).index_add_(0, units.units, by_position[units.positions])
        return squares, units.roots.to(squares.dtype), units


@dataclass(frozen=True, slots=True)
class _Sums:
    """A parameter, its dimensions that have units, and where the sums along each of them begin."""

    held: HeldUnits
    dims: tuple[int, ...]
    starts: tuple[int, ...]

    def squares(self, device: torch.device) -> list[Tensor]:
        """Return, for each of the dimensions, the sum of squares at each position."""
        parameter = self.held.parameter
        whole = parameter if parameter.dtype in (torch.float32, torch.float64) else parameter.float()
        others = [d for d in range(parameter.dim()) if d not in self.dims]
        left = whole.square().sum(others, keepdim=True) if others else whole.square()
        return [_sum_to(left, dim).to(device) for dim in self.dims]

    def pull(self, by_position: Tensor) -> None:
        """Add to the gradient the parameter times the factor of each position."""
        parameter, gradient = self.held.parameter, self.held.gradient
        for dim, start in zip(self.dims, self.starts, strict=True):
            values = by_position[start : start + parameter.shape[dim]].to(gradient)
            gradient.addcmul_(parameter, along(values, dim, parameter.dim()))


def _sum_to(tensor: Tensor, dim: int) -> Tensor:
    """Sum over all dimensions except one."""
    others = [d for d in range(tensor.dim()) if d != dim]
    return tensor.sum(others) if others else tensor


@dataclass(frozen=True, slots=True)
class _Units:
    """All units of all axes, numbered. Unit `units[k]` has position `positions[k]` in the concatenated sums."""

    sums: tuple[_Sums, ...]
    units: Tensor
    positions: Tensor
    roots: Tensor = field(repr=False)  # of the size of each unit
    length: int = 0

    @staticmethod
    def of(axes: list[list[UnitPlace]]) -> _Units:
        """Number the units of axes, each given by its places."""
        sums, starts = _laid_out([place for places in axes for place in places])
        units, positions, roots, first = [], [], [], 0
        for places in axes:
            count, size = len(places[0].positions), 0
            for place in places:
                units.append(torch.arange(first, first + count).repeat_interleave(place.positions.shape[1]))
                positions.append(place.positions.flatten() + starts[place.held.name, place.dim])
                size += place.positions.shape[1] * (place.held.shape.numel() // place.held.shape[place.dim])
            roots.append(torch.full((count,), float(size), dtype=torch.float64).sqrt())
            first += count
        length = sum(one.held.shape[dim] for one in sums for dim in one.dims)
        return _Units(sums, torch.cat(units), torch.cat(positions), torch.cat(roots), length)

    def on(self, device: torch.device) -> _Units:
        """Return the same with indices on a device."""
        if self.units.device == device:
            return self
        units, positions, roots = (tensor.to(device) for tensor in (self.units, self.positions, self.roots))
        return _Units(self.sums, units, positions, roots, self.length)


def _laid_out(places: list[UnitPlace]) -> tuple[tuple[_Sums, ...], dict[tuple[str, int], int]]:
    """Concatenate the dimensions of parameters; return these and where each begins."""
    held = {place.held.name: place.held for place in places}
    dims = {name: sorted({place.dim for place in places if place.held.name == name}) for name in held}
    starts: dict[tuple[str, int], int] = {}
    total = 0
    for name, one in held.items():
        for dim in dims[name]:
            starts[name, dim] = total
            total += one.shape[dim]
    sums = [_Sums(one, tuple(dims[name]), tuple(starts[name, d] for d in dims[name])) for name, one in held.items()]
    return tuple(sums), starts


__all__ = ["GroupLasso"]
