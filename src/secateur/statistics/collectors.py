"""What is summed up during calibration. Each collector hears reads, or looks at gradients, and adds to sums.

A sum goes by (name, quantity); sums of several batches, or of several processes, are added up.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn

from ..graph import Graph, PrunableAxis
from ..slices import per_unit, readers_by_axis
from .listening import Read
from .patches import rows

Key: TypeAlias = "tuple[str, str]"


class Sums(dict[Key, Tensor]):
    """Sums in float64 on the CPU, by name and quantity."""

    def add(self, name: str, quantity: str, value: Tensor | float) -> None:
        value = torch.as_tensor(value).detach().to("cpu", torch.float64)
        held = self.get((name, quantity))
        self[name, quantity] = value.clone() if held is None else held.add_(value)


class Collector(Protocol):
    """gradients: whether the loss is to be differentiated."""

    gradients: bool

    def hear(self, read: Read) -> Tensor | None:
        """See what a weight reads; what it gives is read instead."""
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
        self._batch = 0

    def hear(self, read: Read) -> Tensor | None:
        seed = zlib.crc32(f"{self._seed} {self._batch} {read.reader.weight} {read.number}".encode())
        seen = rows(
            read.x.detach(),
            read.channel,
            read.window,
            read.groups,
            self._places,
            torch.Generator().manual_seed(seed),
        )
        self._sums.add(read.reader.weight, "gram", second_moments(seen))
        return None

    def after(self, model: nn.Module, examples: int) -> None:
        self._batch += 1


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

    batch_dims: along which dimension of what a weight reads in its n-th call the examples lie, if along one.
    """

    gradients = True

    def __init__(self, sums: Sums, graph: Graph, batch_dims: Mapping[tuple[str, int], int]):
        self._sums, self._batch_dims = sums, batch_dims
        self._readers = readers_by_axis(graph)
        self._dims = {name: site.dims for name, site in graph.sites.items()}
        self._heard: dict[str, Tensor] = {}

    def hear(self, read: Read) -> Tensor | None:
        if not (torch.is_grad_enabled() and read.x.requires_grad):
            return None
        own = read.x.view_as(read.x)  # others read x too, and each has a gradient of its own
        own.register_hook(lambda gradient: self._note(read, gradient))
        return own

    def _note(self, read: Read, gradient: Tensor) -> None:
        """Gates of (channels, examples), or of (channels, 1) for all examples together."""
        product = (read.x.detach() * gradient.detach()).movedim(read.channel, 0)
        dim = self._batch_dims.get((read.reader.weight, read.number))
        if dim is not None:
            product = product.movedim(dim + (dim < read.channel), 1)
        gates = product.reshape(product.shape[0], product.shape[1] if dim is not None else 1, -1).sum(2).double().cpu()
        held = self._heard.get(read.reader.weight)
        self._heard[read.reader.weight] = gates if held is None else _together([held, gates])

    def after(self, model: nn.Module, examples: int) -> None:
        """Sum over the readers of each unit, then over examples. The loss is a mean over these."""
        parameters = dict(model.named_parameters())
        for axis, readers in self._readers:
            heard = [per_unit(self._heard[r.weight], r.channels, axis.term) for r in readers if r.weight in self._heard]
            if heard:
                self._sums.add(axis.name, "gate_heard", examples)
            gates = _together(heard) if heard else self._by_weights(axis, parameters)
            if gates is not None:
                gates = gates * examples
                self._sums.add(axis.name, "gate", gates.sum(-1))
                self._sums.add(axis.name, "gate_absolute", gates.abs().sum(-1))
                self._sums.add(axis.name, "gate_square", gates.square().sum(-1))
                self._sums.add(axis.name, "gate_batch", gates.sum(-1).abs())
        self._heard.clear()

    def _by_weights(self, axis: PrunableAxis, parameters: Mapping[str, nn.Parameter]) -> Tensor | None:
        """Of an axis that no weight reads: the sum of w * dL/dw over what reads it otherwise, over its norms' scales
        and shifts, or over what puts it out. All examples together; None where nothing was differentiated."""
        played = {use.role for use in axis.sites}
        roles = next(roles for roles in _GATED if roles[0] in played)
        found = []
        for use in axis.sites:
            w = parameters.get(use.name)
            if use.role in roles and w is not None and w.grad is not None:
                products = (w.detach() * w.grad).double().cpu().movedim(use.dim, 0)
                values = products.reshape(len(products), -1).sum(1, keepdim=True)
                found.append(per_unit(values, self._dims[use.name][use.dim], axis.term))
        return torch.stack(found).sum(0) if found else None


# By which roles a unit's derivative is known, the nearest to its readers first.
_GATED = (("input",), ("scale", "shift"), ("output", "shift"), ("shift",), ("statistic",))


def _together(gates: Sequence[Tensor]) -> Tensor:
    """The sum of several gates of the same units: example by example, if all tell examples apart."""
    if len({gate.shape[-1] for gate in gates}) > 1:
        gates = [gate.sum(-1, keepdim=True) for gate in gates]
    return torch.stack(list(gates)).sum(0)


class Gradients:
    """Of every parameter: sums over batches of its gradient and of the gradient's square."""

    gradients = True

    def __init__(self, sums: Sums):
        self._sums = sums

    def hear(self, read: Read) -> Tensor | None:
        """Nothing: gradients tell all."""

    def after(self, model: nn.Module, examples: int) -> None:
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                self._sums.add(name, "gradient", parameter.grad)
                self._sums.add(name, "gradient_square", parameter.grad.double().square())
