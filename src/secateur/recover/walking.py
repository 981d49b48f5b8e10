"""Follow what a weight makes to where it is judged: through the norm behind it, to the sum that it joins.

A residual sum tells more than the layer alone: what earlier layers got wrong can be made good here. So a layer whose
result goes nowhere but, through a norm in evaluation mode or a scale, into a sum is solved for at that sum.
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
    """A tensor is scale * y + shift, channel by channel, where y is what a weight made of what it read.

    mean: the running mean of the first norm behind the weight, if nothing came before it.
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
    """A sum in which one operand is what became of a weight's result: the tail, the other operand, and the sum."""

    tail: Tail
    other: Tensor
    total: Tensor


@dataclass
class Ends:
    """What a rehearsal found of each weight: how often it reads, whether its result ends in a sum, which running mean
    can take a constant for it."""

    reads: dict[str, int] = field(default_factory=dict)
    uses: dict[str, int] = field(default_factory=dict)
    joins: set[str] = field(default_factory=set)
    means: dict[str, Tensor] = field(default_factory=dict)
    bare: set[str] = field(default_factory=set)  # used as they are, before any norm
    biases: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)  # how many channels come out
    out_dims: dict[str, int] = field(default_factory=dict)  # along which dimension of the weight
    spread: set[str] = field(default_factory=set)  # transposed convolutions
    order: dict[str, int] = field(
        default_factory=dict
    )  # in which they read; of those that join a sum, in which they do

    def next(self) -> int:
        """A place in the order, behind all so far."""
        return max(self.order.values(), default=-1) + 1

    def note(self, read: Read) -> None:
        """A weight has read once more."""
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
        """Those that read once, and whose results do not overlap."""
        return {name for name, times in self.reads.items() if times == 1 and name not in self.spread}

    def mean(self, name: str) -> Tensor | None:
        """The running mean that all of a weight's result goes through, if nothing else does."""
        found = self.means.get(name)
        shared = sum(found is other for other in self.means.values()) > 1
        return None if found is None or shared or name in self.bare or self.reads.get(name) != 1 else found

    @property
    def joining(self) -> set[str]:
        """Those whose result ends in one sum and nowhere else."""
        return {name for name in self.joins & self.solvable if self.uses.get(name) == 1}


class Walk(Listener):
    """Runs a model; `joined` hears of every sum that the result of one of `followed` ends in, and gives the sum."""

    def __init__(
        self,
        model: nn.Module,
        graph: Graph,
        hear: Callable[[Read], Tensor | None],
        joined: Callable[[Joined], Tensor],
        followed: Collection[str] | None,
        ends: Ends | None = None,
    ):
        super().__init__(model, graph.readers, hear)
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
        # Where a sum was written over the other operand, that is what is left of it without the marked one.
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
        """The operand to be solved for, and the other one; of two that could be, the one that was made last, as the
        faults of the other are known by then. Neither may be broadcast."""
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
    """Run the cut model on a batch to see where each weight's result goes."""
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
    """What becomes of a tail in a function that scales and shifts it channel by channel."""
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
    """Batch norm by running statistics: gamma (y - mean) / sqrt(var + eps) + beta."""
    if training or running_mean is None or running_var is None:
        return None
    factor = (running_var + eps).rsqrt()
    factor = factor if weight is None else factor * weight.detach()
    shift = -running_mean * factor
    shift = shift if bias is None else shift + bias.detach()
    first = isinstance(tail.scale, float)
    return Tail(tail.read, tail.scale * factor, tail.shift * factor + shift, running_mean if first else tail.mean)


__all__ = ["Ends", "Joined", "Tail", "Walk", "rehearsed"]
