"""Least squares layer by layer: each weight makes of what the cut model gives it what the dense model makes there.

The dense and the cut model run side by side over all calibration batches, every run a strand that stops at each weight:
all batches arrive, the weight is solved for, and all go on with it. So each layer sees what the layers before it really
give now, and the whole costs one run of each model, whatever its depth. What a run holds while it waits is what lives
of it at that layer; that is the memory it takes, for each batch.

He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, sections 3.1 and 3.2 (the sums
of residual branches); without its choice of channels.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.graph.consumers import matrix_of, weight_of
from secateur.recover.constants import Constants
from secateur.recover.coroutines import Strand
from secateur.recover.solving import applied, solved
from secateur.recover.task import Task
from secateur.recover.walking import Ends, Joined, Walk
from secateur.statistics.batches import CalibrationBatch
from secateur.statistics.listening import Read
from secateur.statistics.patches import rows
from secateur.statistics.sums import PLACES
from secateur.trace.interceptor import uncompiled

Events: TypeAlias = "dict[int, tuple[Any, Any]]"
"""What the dense and the cut model are at, by the number of the batch: both read, or both join a sum."""

TINY = 1e-3  # a scale that is this much smaller than the largest hides what is behind it


class Layerwise:
    """Solves for the weights of `model`, cut from that of `graph` by `plan`, in the order in which they read."""

    def __init__(self, task: Task, ends: Ends, constants: Constants, *, places: int = PLACES):
        self.graph, self.model, self.plan, self.batches = task.graph, task.model, task.plan, task.batches
        self.ends, self.constants, self.places, self.seed = ends, constants, places, task.seed
        self.ridges: dict[str, float] = {}

    def run(self) -> tuple[list[Any], list[Any]]:
        """Solve for every weight; gives the outputs of both models, batch by batch."""
        dense = [Strand(self._body(self.graph.model, batch)) for batch in self.batches]
        cut = [Strand(self._body(self.model, batch)) for batch in self.batches]
        with (
            uncompiled()
        ):  # around all of them: they end in another order than they begin, and would put back each other's
            try:
                self._meet(dense, cut)
            finally:
                for strand in (*dense, *cut):
                    strand.close()
        return [strand.result for strand in dense], [strand.result for strand in cut]

    def _body(self, model: nn.Module, batch: CalibrationBatch) -> Callable[[Callable[[Any], Any]], Any]:
        """One run of a model, which stops at every weight that is to be solved for, and at the sums of `joining`."""
        joining = self.ends.joining
        alone = self.ends.solvable - joining

        def body(pause: Callable[[Any], Any]) -> Any:
            def hear(read: Read) -> None:
                name = read.reader.weight
                if name in alone:
                    pause(read)

            walk = Walk(model, self.graph, hear, pause, joining)
            with torch.no_grad(), walk.running():
                return batch.call.run(model)

        return body

    def _meet(self, dense: Sequence[Strand], cut: Sequence[Strand]) -> None:
        """Bring all runs to the next place, solve there, and go on. Where values decide what runs, the runs of some
        batches never get there, and tell nothing of that weight."""
        for strand in (*dense, *cut):
            strand.advance()
        while not all(strand.done for strand in cut):
            name = min((_name(strand.event) for strand in cut if not strand.done), key=self._place)
            there = [i for i, strand in enumerate(cut) if _name(strand.event) == name]
            for i in there:
                self._reach(dense[i], name)
            met = {i: (dense[i].event, cut[i].event) for i in there if _matches(dense[i].event, cut[i].event)}
            change = self._solve(name, met) if met and name not in self.ridges else None
            for i in there:
                cut[i].advance(_answer(cut[i].event, change))
        for strand in dense:
            self._reach(strand, None)

    def _place(self, name: str) -> int:
        """The place of a weight in the order in which weights read, or join a sum."""
        return self.ends.order[name]

    def _reach(self, strand: Strand, name: str | None) -> None:
        """Let a run go on to a place, or past where that would be; to its end, without a name."""
        while not strand.done and (name is None or self._place(_name(strand.event)) < self._place(name)):
            strand.advance(_answer(strand.event, None))

    # --- one weight ---

    def _solve(self, name: str, events: Events) -> WeightChange | None:
        """Make a weight anew from what all batches tell; None where it already reads what it always read."""
        if all(_alike(dense, cut) for dense, cut in events.values()):
            return None
        read = _read(next(iter(events.values()))[1])
        start = self._matrix(read)
        constant = self.constants.takes(name)
        matrix, self.ridges[name] = solved(lambda: self._rows(name, events, start), start, constant=constant)
        change = matrix - start
        weight = weight_of(change[:, :-1], read.weight, read.reader.dim).to(read.weight)
        shift = change[:, -1].flatten().to(read.weight)
        read.weight.data.add_(weight)
        if constant:
            self.constants.add(name, shift)
        return WeightChange(weight, shift if constant else None)

    def _matrix(self, read: Read) -> Tensor:
        """(groups, features + 1, outputs), in float64; the bias last."""
        matrix = matrix_of(read.weight.detach().double(), read.reader.dim, read.groups)
        bias = torch.zeros_like(matrix[:, :1])
        if read.bias is not None:
            bias = read.bias.detach().double().reshape(matrix.shape[0], 1, -1)
        return torch.cat([matrix, bias], 1).cpu()

    def _rows(self, name: str, events: Events, start: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """What the weight reads now, and what is to come of it."""
        for i, (dense, cut) in events.items():
            seen = self._drawn(i, name, _read(cut), _read(cut).x)
            if isinstance(cut, Joined):
                yield seen, self._wanted_of_sum(i, name, dense, cut, seen, start)
            else:
                yield seen, self._wanted(i, name, dense, seen.shape[1])

    def _drawn(self, batch: int, name: str, read: Read, x: Tensor) -> Tensor:
        seed = zlib.crc32(f"{self.seed} {batch} {name}".encode())
        return rows(x, read.channel, read.window, read.groups, self.places, torch.Generator().manual_seed(seed))

    def _wanted(self, batch: int, name: str, read: Read, groups: int) -> Tensor:
        """What the dense model makes here, of the outputs that are kept."""
        made = applied(self._drawn(batch, name, read, read.x), self._matrix(read)).flatten(1)
        kept = self._kept(name)
        made = made if kept is None else made[:, torch.tensor(kept, device=made.device)]
        return made.unflatten(1, (groups, -1))

    def _kept(self, name: str) -> list[int] | None:
        """The outputs of a weight that are kept, or None for all."""
        return self.plan.positions(name)[self.ends.out_dims[name]] if name in self.plan.sites else None

    def _wanted_of_sum(self, batch: int, name: str, dense: Joined, cut: Joined, seen: Tensor, start: Tensor) -> Tensor:
        """What makes the sum what it is in the dense model, whatever the other operand has become."""
        seed = zlib.crc32(f"{self.seed} {batch} {name}".encode())
        kept, total = self._kept(name), dense.total
        if kept is not None:
            total = total.index_select(cut.tail.channel, torch.tensor(kept, device=total.device))
        missing = total - cut.other
        generator = torch.Generator().manual_seed(seed)
        wanted = rows(missing, cut.tail.channel, None, 1, self.places, generator).flatten(1).double()
        scale = torch.as_tensor(cut.tail.scale, dtype=torch.float64, device=wanted.device).expand(wanted.shape[1])
        blind = scale.abs() <= TINY * scale.abs().max()
        wanted = (wanted - torch.as_tensor(cut.tail.shift, device=wanted.device)) / scale.masked_fill(blind, 1.0)
        made = applied(seen, start)
        return torch.where(blind, made.flatten(1), wanted).view_as(made)


@dataclass(frozen=True, slots=True)
class WeightChange:
    """What was added to a weight, and to its bias or to what stands for it."""

    weight: Tensor
    shift: Tensor | None

    def of(self, read: Read) -> Tensor:
        """By how much the result changes."""
        if read.window is None:
            x = read.x.movedim(read.channel, -1)
            out = F.linear(x, self.weight if read.reader.dim == 1 else self.weight.T, self.shift)
            return out.movedim(-1, read.channel)
        return read.window.convolved(read.x, self.weight, self.shift, read.groups)


def _answer(event: Any, change: WeightChange | None) -> Any:
    """The sum as it is with the change, where a run waits at one."""
    if not isinstance(event, Joined):
        return None
    if change is not None:
        delta = change.of(event.tail.read)
        wide = [-1 if d == event.tail.channel else 1 for d in range(delta.dim())]
        scale = event.tail.scale
        event.total.add_(delta * scale.view(wide) if isinstance(scale, Tensor) else delta * scale)
    return event.total


def _read(event: Any) -> Read:
    return event.tail.read if isinstance(event, Joined) else event


def _name(event: Any) -> str:
    return _read(event).reader.weight if event is not None else ""


def _matches(dense: Any, cut: Any) -> bool:
    """Whether both models are at the same weight, and read at the same places there."""
    if _name(dense) != _name(cut):
        return False
    a, b = _read(dense), _read(cut)
    other = [d for d in range(a.x.dim()) if d != a.channel]
    return a.x.dim() == b.x.dim() and all(a.x.shape[d] == b.x.shape[d] for d in other)


def _alike(dense: Any, cut: Any) -> bool:
    """Whether nothing has changed so far in what a weight reads, and in what its result is added to."""
    if isinstance(cut, Joined):
        return _alike(dense.tail.read, cut.tail.read) and torch.equal(dense.other, cut.other)
    return dense.x.shape == cut.x.shape and torch.equal(dense.x, cut.x)


__all__ = ["Layerwise"]
