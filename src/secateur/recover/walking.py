"""Tracking of a weight's output through the norm behind it to the residual sum that it joins.

At a residual sum, a layer can also correct the errors of earlier layers. A layer whose output goes only into a sum,
directly or through a norm in evaluation mode or a scale, is therefore solved for at that sum.

Reference:
    He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, solve for the
    last layer of a residual branch at the sum. Finding the sums in a running model is our own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.graph.graph import Graph
from secateur.statistics.batches import CalibrationBatch
from secateur.statistics.listening import Listener, Read

_MARK = "_secateur_tail"
_T = torch.Tensor
SUMS = frozenset({torch.add, _T.add, _T.add_, _T.__add__, _T.__iadd__, _T.__radd__})
SCALES = frozenset({torch.mul, _T.mul, _T.__mul__, _T.__rmul__})
HARMLESS = frozenset({"__get__", "size", "dim", "stride", "is_contiguous", "__len__", "numel", "type", "get_device"})


@dataclass(frozen=True, slots=True)
class Tail:
    """Marks a tensor as scale * y + shift, channel by channel, where y is the output of a weight.

    mean: the running mean of the norm directly behind the weight, if there is one.
    """

    read: Read
    scale: Tensor | float = 1.0
    shift: Tensor | float = 0.0
    mean: Tensor | None = None

    @property
    def channel(self) -> int:
        return self.read.channel


@dataclass(frozen=True, slots=True)
class Joined:
    """A sum of an operand that derives from a weight's output, marked by its tail, and another one."""

    tail: Tail
    other: Tensor
    total: Tensor


@dataclass
class Ends:
    """The findings of a rehearsal for each weight: how often it runs, whether its output ends in a sum, and which
    running mean can take a constant for it."""

    reads: dict[str, int] = field(default_factory=dict)
    uses: dict[str, int] = field(default_factory=dict)
    joins: set[str] = field(default_factory=set)
    means: dict[str, Tensor] = field(default_factory=dict)
    bare: set[str] = field(default_factory=set)  # used directly, before any norm
    biases: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)  # the number of output channels
    out_dims: dict[str, int] = field(default_factory=dict)  # the output dimension of the weight
    spread: set[str] = field(default_factory=set)  # transposed convolutions
    order: dict[str, int] = field(default_factory=dict)  # in which weights run, or join a sum

    def next(self) -> int:
        """Return the next position in the order."""
        return max(self.order.values(), default=-1) + 1

    def note(self, read: Read) -> None:
        """Record one run of a weight."""
        name = read.reader.weight
        self.reads[name] = self.reads.get(name, 0) + 1
        self.order.setdefault(name, self.next())
        self.out_dims[name] = 1 - read.reader.dim if read.weight.dim() == 2 else int(read.spreads)
        self.outputs[name] = read.weight.shape[self.out_dims[name]] * (read.groups if read.spreads else 1)
        if read.bias is not None:
            self.biases[name] = read.bias
        if read.spreads:
            self.spread.add(name)

    @property
    def solvable(self) -> set[str]:
        """The weights that run once and whose outputs do not overlap."""
        return {name for name, times in self.reads.items() if times == 1 and name not in self.spread}

    def mean(self, name: str) -> Tensor | None:
        """Return the running mean that all of a weight's output, and nothing else, goes through, or None."""
        found = self.means.get(name)
        shared = sum(found is other for other in self.means.values()) > 1
        return None if found is None or shared or name in self.bare or self.reads.get(name) != 1 else found

    @property
    def joining(self) -> set[str]:
        """The solvable weights whose output ends in one sum and nowhere else."""
        return {name for name in self.joins & self.solvable if self.uses.get(name) == 1}


class Walk(Listener):
    """A listener that replaces every sum in which the output of a `followed` weight ends by the result of `joined`."""

    def __init__(
        self,
        model: nn.Module,
        graph: Graph,
        on_read: Callable[[Read], Tensor | None],
        joined: Callable[[Joined], Tensor],
        followed: Collection[str] | None,
        ends: Ends | None = None,
    ):
        super().__init__(model, graph.readers, on_read)
        self._joined, self._followed, self._ends = joined, followed, ends
        self._order: list[str] = []

    def made(self, read: Read, out: Tensor) -> Tensor:
        name = read.reader.weight
        if not read.spreads and (self._followed is None or name in self._followed):
            setattr(out, _MARK, Tail(read))
            self._order.append(name)
        if self._ends is not None:
            self._ends.note(read)
        return out

    def on_function(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for tail in _tails(args, kwargs):
            self._use(tail)
        return super().on_function(func, args, kwargs)

    def after(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        tails = _tails(args, kwargs)
        if not tails or getattr(func, "__name__", "") in HARMLESS:
            return out
        made = _carried(func, args, kwargs) if len(tails) == 1 else None
        if made is not None and isinstance(out, Tensor):
            if made.mean is not None and self._ends is not None:
                self._ends.means[made.read.reader.weight] = made.mean
            setattr(out, _MARK, made)
            return out
        for tail in tails:
            self._use(tail)
        # Where an in-place sum overwrote the other operand, subtracting the marked one restores it.
        pair = self._pair(args, out) if func in SUMS and len(args) == 2 and not kwargs else None
        if isinstance(out, Tensor) and hasattr(out, _MARK):  # written in place
            delattr(out, _MARK)
        if pair is None:
            return out
        tail, other = pair
        if self._ends is not None:
            self._ends.joins.add(tail.read.reader.weight)
            self._ends.order[tail.read.reader.weight] = self._ends.next()
        return self._joined(Joined(tail, other, out))

    def _pair(self, args: tuple[Any, ...], out: Any) -> tuple[Tail, Tensor] | None:
        """Return the tail to be solved for and the other operand, or None where one is broadcast.

        If both operands have a tail, the later one is chosen, because the errors of the earlier one are known by then.
        """
        a, b = args
        if not (isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape == out.shape):
            return None
        marked = [(getattr(x, _MARK), out - x if y is out else y) for x, y in ((a, b), (b, a)) if hasattr(x, _MARK)]
        if not marked:
            return None
        return max(marked, key=lambda pair: self._order.index(pair[0].read.reader.weight))

    def _use(self, tail: Tail) -> None:
        if self._ends is not None:
            name = tail.read.reader.weight
            self._ends.uses[name] = self._ends.uses.get(name, 0) + 1
            if tail.mean is None:
                self._ends.bare.add(name)


def rehearsed(graph: Graph, model: nn.Module, batch: CalibrationBatch) -> Ends:
    """Run the cut model on a batch to find where each weight's output goes."""
    ends = Ends()
    walk = Walk(model, graph, lambda read: None, lambda joined: joined.total, None, ends)
    with torch.no_grad(), walk.running():
        batch.call.run(model)
    return ends


def _tails(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tail]:
    found = []
    for value in (*args, *kwargs.values()):
        for one in value if isinstance(value, (tuple, list)) else (value,):
            tail = getattr(one, _MARK, None) if isinstance(one, Tensor) else None
            if tail is not None:
                found.append(tail)
    return found


def _carried(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tail | None:
    """Return the tail after a function that scales and shifts it channel by channel; None for other functions."""
    tail = getattr(args[0], _MARK, None) if args and isinstance(args[0], Tensor) else None
    if tail is None:
        return None
    if func is F.dropout:
        training = kwargs.get("training", args[2] if len(args) > 2 else True)
        return None if training else tail
    if func is F.batch_norm:
        return _normed(tail, *args[1:], **kwargs)
    if func in SCALES and len(args) == 2 and isinstance(args[1], nn.Parameter):
        scale, x = args[1].detach(), args[0]
        wide = [1] * x.dim()
        wide[tail.channel] = x.shape[tail.channel]
        if scale.numel() == x.shape[tail.channel] and list(_aligned(scale, x.dim()).shape) == wide:
            return replace(tail, scale=tail.scale * scale.flatten(), shift=tail.shift * scale.flatten(), mean=tail.mean)
    return None


def _aligned(scale: Tensor, dims: int) -> Tensor:
    return scale.reshape([1] * (dims - scale.dim()) + list(scale.shape)) if scale.dim() <= dims else scale


def _normed(
    tail: Tail,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tail | None:
    """Return the tail after a batch norm in evaluation mode, gamma (y - mean) / sqrt(var + eps) + beta."""
    if training or running_mean is None or running_var is None:
        return None
    factor = (running_var + eps).rsqrt()
    factor = factor if weight is None else factor * weight.detach()
    shift = -running_mean * factor
    shift = shift if bias is None else shift + bias.detach()
    first = isinstance(tail.scale, float)
    return Tail(tail.read, tail.scale * factor, tail.shift * factor + shift, running_mean if first else tail.mean)


__all__ = ["Ends", "Joined", "Tail", "Walk", "rehearsed"]
