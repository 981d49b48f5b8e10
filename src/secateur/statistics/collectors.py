"""The collectors of a calibration. Each processes the inputs of weights, or gradients, and adds to sums.

Sums are keyed by (name, quantity). The sums of several batches, and of several processes, are added.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from secateur.graph.graph import Graph
from secateur.graph.parts import PrunableAxis
from secateur.graph.units import per_unit, readers_by_axis
from secateur.statistics.batches import CalibrationBatch
from secateur.statistics.layout import Layout, Places, layouts
from secateur.statistics.listening import Read
from secateur.statistics.patches import rows
from secateur.statistics.sums import Sums


class Collector(Protocol):
    """The interface of collectors. `gradients`: whether it needs the loss to be differentiated."""

    gradients: bool

    def hear(self, read: Read) -> Tensor | None:
        """Process the input of a weight. A returned tensor replaces the input."""
        ...

    def before(self, batch: CalibrationBatch) -> None:
        """Prepare for a batch that is about to run."""
        ...

    def after(self, model: nn.Module, examples: int) -> None:
        """Process a batch after its run, and after the backward pass if any collector needs gradients."""
        ...


class Moments:
    """Per input channel of a weight: the number of values, their sum, and the sums of |x|, x² and [x = 0]."""

    gradients = False

    def __init__(self, sums: Sums):
        self._sums = sums

    def hear(self, read: Read) -> Tensor | None:
        x = read.x.detach()
        others = [dim for dim in range(x.dim()) if dim != read.channel]
        whole = x if x.dtype == torch.float64 else x.float()
        add = self._sums.add
        add(read.reader.weight, "count", x.numel() // x.shape[read.channel])
        add(read.reader.weight, "sum", whole.sum(others) if others else whole)
        add(read.reader.weight, "square", torch.linalg.vector_norm(whole, 2, others).square() if others else whole**2)
        add(read.reader.weight, "absolute", torch.linalg.vector_norm(whole, 1, others) if others else whole.abs())
        add(read.reader.weight, "zeros", (x == 0).sum(others))
        return None

    def before(self, batch: CalibrationBatch) -> None:
        """Do nothing: reads suffice."""

    def after(self, model: nn.Module, examples: int) -> None:
        """Do nothing: reads suffice."""


class Gram:
    """Second moments of the input rows of a weight, extended by a constant 1: (groups, features + 1, features + 1).

    For each entry of the first dimension, `places` positions are sampled at random, because neighbours in an image are
    similar.
    """

    gradients = False

    def __init__(self, sums: Sums, places: int, seed: int):
        self._sums, self._places, self._seed = sums, places, seed
        self._generators: dict[str, torch.Generator] = {}

    def before(self, batch: CalibrationBatch) -> None:
        """Do nothing: reads suffice."""

    def hear(self, read: Read) -> Tensor | None:
        seen = rows(read.x.detach(), read.channel, read.window, read.groups, self._places, self._generator(read))
        self._sums.add(read.reader.weight, "gram", second_moments(seen))
        return None

    def _generator(self, read: Read) -> torch.Generator:
        """Return the generator of a weight; it continues across batches, so samples do not depend on the batch size."""
        key = f"{self._seed} {read.reader.weight} {read.number}"
        if key not in self._generators:
            self._generators[key] = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        return self._generators[key]

    def after(self, model: nn.Module, examples: int) -> None:
        """Do nothing: reads suffice."""


def second_moments(seen: Tensor, beside: Tensor | None = None) -> Tensor:
    """Return [seen, 1]^T beside, or [seen, 1]^T [seen, 1] without `beside`.

    seen: (rows, groups, f), beside: (rows, groups, o) -> (groups, f + 1, o), or (groups, f + 1, f + 1).
    """
    seen = seen.to(torch.promote_types(seen.dtype, torch.float32))
    left = torch.cat([seen, seen.new_ones(*seen.shape[:2], 1)], 2).transpose(0, 1)
    right = left if beside is None else beside.to(left.dtype).transpose(0, 1)
    return left.transpose(1, 2) @ right


class Gates:
    """Per unit: the sums over examples of |g|, g and g², and over batches of |sum of g|.

    g is the derivative of an example's loss by a factor on the unit: the sum of x * dL/dx over all reads of the unit.
    "gate_heard" counts the examples for which it was recorded.
    """

    gradients = True

    def __init__(self, sums: Sums, graph: Graph):
        self._sums, self._graph = sums, graph
        self._layouts: Mapping[Places, Layout] | None = None
        self._readers = readers_by_axis(graph)
        self._dims = {name: site.dims for name, site in graph.sites.items()}
        self._recorded: dict[str, Tensor] = {}

    def before(self, batch: CalibrationBatch) -> None:
        """Determine the layout of examples, on the first batch with several examples."""
        if self._layouts is None and batch.examples > 1:
            self._layouts = layouts(self._graph, batch)

    def hear(self, read: Read) -> Tensor | None:
        if not (torch.is_grad_enabled() and read.x.requires_grad):
            return None
        own = read.x.view_as(read.x)  # other layers may read x too, and each has its own gradient
        own.register_hook(lambda gradient: self._note(read, gradient))
        return own

    def _note(self, read: Read, gradient: Tensor) -> None:
        """Record gates of shape (channels, examples), or (channels, 1) for the sum over the examples."""
        wide = torch.promote_types(gradient.dtype, torch.float32)
        product = read.x.detach().to(wide) * gradient.detach().to(wide)
        layout = (self._layouts or {}).get((read.reader.weight, read.number))
        if layout is None:
            gates = product.movedim(read.channel, 0).flatten(1).sum(1, keepdim=True)
        else:
            gates = layout.by_example(product, read.channel)
        gates = gates.double().cpu()
        held = self._recorded.get(read.reader.weight)
        self._recorded[read.reader.weight] = gates if held is None else _together([held, gates])

    def after(self, model: nn.Module, examples: int) -> None:
        """Sum over the readers of each unit, then over examples. The loss is a mean over the examples."""
        parameters = dict(model.named_parameters())
        for axis, readers in self._readers:
            recorded = [
                per_unit(self._recorded[r.weight], r.channels, axis.term) for r in readers if r.weight in self._recorded
            ]
            if recorded:
                self._sums.add(axis.name, "gate_heard", examples)
            gates = [
                *recorded,
                *self._by_weights(axis, parameters, roles=("input",) if recorded else self._roles(axis)),
            ]
            if gates:
                self._add(axis.name, _together(gates) * examples)
        self._recorded.clear()

    def _add(self, name: str, gates: Tensor) -> None:
        self._sums.add(name, "gate", gates.sum(-1))
        self._sums.add(name, "gate_absolute", gates.abs().sum(-1))
        self._sums.add(name, "gate_square", gates.square().sum(-1))
        self._sums.add(name, "gate_batch", gates.sum(-1).abs())

    def _roles(self, axis: PrunableAxis) -> tuple[str, ...]:
        """Return the roles to use for an axis without recorded reads: input, scale and shift, or output."""
        played = {use.role for use in axis.sites}
        return next(roles for roles in _GATED if roles[0] in played)

    def _by_weights(
        self, axis: PrunableAxis, parameters: Mapping[str, nn.Parameter], roles: Sequence[str]
    ) -> list[Tensor]:
        """Return the sums of w * dL/dw over slices with these roles that were not recorded, such as recurrent weights.

        Each has shape (units, 1), for the sum over the examples.
        """
        recorded = {(name, self._graph.readers[name].dim) for name in self._recorded}
        found = []
        for use in axis.sites:
            w = parameters.get(use.name)
            if use.role in roles and (use.name, use.dim) not in recorded and w is not None and w.grad is not None:
                products = (w.detach() * w.grad).double().cpu().movedim(use.dim, 0)
                values = products.reshape(len(products), -1).sum(1, keepdim=True)
                found.append(per_unit(values, self._dims[use.name][use.dim], axis.term))
        return found


# The roles that determine a unit's derivative, the closest to its readers first.
_GATED = (("input",), ("scale", "shift"), ("output", "shift"), ("shift",), ("statistic",))


def _together(gates: Sequence[Tensor]) -> Tensor:
    """Return the sum of gates of the same units, per example if all of them are per example."""
    if len({gate.shape[-1] for gate in gates}) > 1:
        gates = [gate.sum(-1, keepdim=True) for gate in gates]
    return torch.stack(list(gates)).sum(0)


class GradientSums:
    """Per parameter: the sums over batches of the gradient and of its square."""

    gradients = True

    def __init__(self, sums: Sums):
        self._sums = sums

    def hear(self, read: Read) -> Tensor | None:
        """Do nothing: gradients suffice."""

    def before(self, batch: CalibrationBatch) -> None:
        """Do nothing: gradients suffice."""

    def after(self, model: nn.Module, examples: int) -> None:
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                self._sums.add(name, "gradient", parameter.grad)
                self._sums.add(name, "gradient_square", parameter.grad.double().square())
