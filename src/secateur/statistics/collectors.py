"""What is summed up during calibration. Each collector hears reads, or looks at gradients, and adds to sums.

A sum goes by (name, quantity); sums of several batches, or of several processes, are added up.
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
    """gradients: whether the loss is to be differentiated."""

    gradients: bool

    def hear(self, read: Read) -> Tensor | None:
        """See what a weight reads; what it gives is read instead."""
        ...

    def before(self, batch: CalibrationBatch) -> None:
        """Called before a batch runs."""
        ...

    def after(self, model: nn.Module, examples: int) -> None:
        """Called when a batch has run, and has been differentiated if anyone wanted that."""
        ...


class Moments:
    """Of every channel that is read: how many values, their sum, and the sums of |x|, x² and [x = 0]."""

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
        """Nothing: reads tell all."""

    def after(self, model: nn.Module, examples: int) -> None:
        """Nothing: reads tell all."""


class Gram:
    """Second moments of whole rows of what is read, with a constant 1 behind: (groups, features + 1, features + 1).

    Of each row along the first dimension `places` places are drawn at random, for neighbours in an image tell much
    the same.
    """

    gradients = False

    def __init__(self, sums: Sums, places: int, seed: int):
        self._sums, self._places, self._seed = sums, places, seed
        self._generators: dict[str, torch.Generator] = {}

    def before(self, batch: CalibrationBatch) -> None:
        """Nothing: reads tell all."""

    def hear(self, read: Read) -> Tensor | None:
        seen = rows(read.x.detach(), read.channel, read.window, read.groups, self._places, self._generator(read))
        self._sums.add(read.reader.weight, "gram", second_moments(seen))
        return None

    def _generator(self, read: Read) -> torch.Generator:
        """One that goes on from batch to batch, so that what is drawn does not depend on where these end."""
        key = f"{self._seed} {read.reader.weight} {read.number}"
        if key not in self._generators:
            self._generators[key] = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        return self._generators[key]

    def after(self, model: nn.Module, examples: int) -> None:
        """Nothing: reads tell all."""


def second_moments(seen: Tensor, beside: Tensor | None = None) -> Tensor:
    """seen: (rows, groups, f), beside: (rows, groups, o) -> (groups, f + 1, o); with itself (groups, f + 1, f + 1)."""
    seen = seen.to(torch.promote_types(seen.dtype, torch.float32))
    left = torch.cat([seen, seen.new_ones(*seen.shape[:2], 1)], 2).transpose(0, 1)
    right = left if beside is None else beside.to(left.dtype).transpose(0, 1)
    return left.transpose(1, 2) @ right


class Gates:
    """Of every unit: sums over examples of |g|, g and g², and over batches of |sum of g|, where g is the derivative of
    an example's loss by a factor on that unit: the sum of x * dL/dx over all that is read of it. "gate_heard" counts
    the examples for which it was.
    """

    gradients = True

    def __init__(self, sums: Sums, graph: Graph):
        self._sums, self._graph = sums, graph
        self._layouts: Mapping[Places, Layout] | None = None
        self._readers = readers_by_axis(graph)
        self._dims = {name: site.dims for name, site in graph.sites.items()}
        self._heard: dict[str, Tensor] = {}

    def before(self, batch: CalibrationBatch) -> None:
        """Find out where examples lie, with the first batch that has several."""
        if self._layouts is None and batch.examples > 1:
            self._layouts = layouts(self._graph, batch)

    def hear(self, read: Read) -> Tensor | None:
        if not (torch.is_grad_enabled() and read.x.requires_grad):
            return None
        own = read.x.view_as(read.x)  # others read x too, and each has a gradient of its own
        own.register_hook(lambda gradient: self._note(read, gradient))
        return own

    def _note(self, read: Read, gradient: Tensor) -> None:
        """Gates of (channels, examples), or of (channels, 1) for all examples together."""
        wide = torch.promote_types(gradient.dtype, torch.float32)
        product = read.x.detach().to(wide) * gradient.detach().to(wide)
        layout = (self._layouts or {}).get((read.reader.weight, read.number))
        if layout is None:
            gates = product.movedim(read.channel, 0).flatten(1).sum(1, keepdim=True)
        else:
            gates = layout.by_example(product, read.channel)
        gates = gates.double().cpu()
        held = self._heard.get(read.reader.weight)
        self._heard[read.reader.weight] = gates if held is None else _together([held, gates])

    def after(self, model: nn.Module, examples: int) -> None:
        """Sum over the readers of each unit, then over examples. The loss is a mean over these."""
        parameters = dict(model.named_parameters())
        for axis, readers in self._readers:
            heard = [per_unit(self._heard[r.weight], r.channels, axis.term) for r in readers if r.weight in self._heard]
            if heard:
                self._sums.add(axis.name, "gate_heard", examples)
            gates = [*heard, *self._by_weights(axis, parameters, roles=("input",) if heard else self._roles(axis))]
            if gates:
                self._add(axis.name, _together(gates) * examples)
        self._heard.clear()

    def _add(self, name: str, gates: Tensor) -> None:
        self._sums.add(name, "gate", gates.sum(-1))
        self._sums.add(name, "gate_absolute", gates.abs().sum(-1))
        self._sums.add(name, "gate_square", gates.square().sum(-1))
        self._sums.add(name, "gate_batch", gates.sum(-1).abs())

    def _roles(self, axis: PrunableAxis) -> tuple[str, ...]:
        """Of an axis that nothing was heard of: what reads it, or its norms' scales and shifts, or what puts it out."""
        played = {use.role for use in axis.sites}
        return next(roles for roles in _GATED if roles[0] in played)

    def _by_weights(
        self, axis: PrunableAxis, parameters: Mapping[str, nn.Parameter], roles: Sequence[str]
    ) -> list[Tensor]:
        """The sums of w * dL/dw over the slices of what plays these roles and was not heard, such as recurrent weights:
        (units, 1) each, all examples together."""
        heard = {(name, self._graph.readers[name].dim) for name in self._heard}
        found = []
        for use in axis.sites:
            w = parameters.get(use.name)
            if use.role in roles and (use.name, use.dim) not in heard and w is not None and w.grad is not None:
                products = (w.detach() * w.grad).double().cpu().movedim(use.dim, 0)
                values = products.reshape(len(products), -1).sum(1, keepdim=True)
                found.append(per_unit(values, self._dims[use.name][use.dim], axis.term))
        return found


# By which roles a unit's derivative is known, the nearest to its readers first.
_GATED = (("input",), ("scale", "shift"), ("output", "shift"), ("shift",), ("statistic",))


def _together(gates: Sequence[Tensor]) -> Tensor:
    """The sum of several gates of the same units: example by example, if all tell examples apart."""
    if len({gate.shape[-1] for gate in gates}) > 1:
        gates = [gate.sum(-1, keepdim=True) for gate in gates]
    return torch.stack(list(gates)).sum(0)


class GradientSums:
    """Of every parameter: sums over batches of its gradient and of the gradient's square."""

    gradients = True

    def __init__(self, sums: Sums):
        self._sums = sums

    def hear(self, read: Read) -> Tensor | None:
        """Nothing: gradients tell all."""

    def before(self, batch: CalibrationBatch) -> None:
        """Nothing: gradients tell all."""

    def after(self, model: nn.Module, examples: int) -> None:
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                self._sums.add(name, "gradient", parameter.grad)
                self._sums.add(name, "gradient_square", parameter.grad.double().square())
