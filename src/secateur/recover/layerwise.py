"""Layer-by-layer least squares: each weight of the cut model reproduces the output of the dense model there.

The dense and the cut model run in lockstep over all calibration batches. Every run is a strand that pauses at each
weight: when all batches have arrived, the weight is solved for, and all runs continue with it. Each layer therefore
sees the actual outputs of the recovered layers before it, and the total cost is one run of each model at any depth. A
waiting run holds the tensors that are alive at that layer, so memory grows with the number of batches.

Reference:
    He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, equation 4
    (least-squares reconstruction, without the choice of channels) and its extension to whole models and to the sums of
    residual branches. The lockstep runs, and the order in which sums are solved, are our own.
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
"""The events of the dense and the cut model by batch number: both are a `Read`, or both a `Joined` sum."""

TINY = 1e-3  # channels whose scale is smaller than this share of the largest are not solved for


class Layerwise:
    """Solves for the weights of the cut model of a task, in the order in which they run."""

    def __init__(self, task: Task, ends: Ends, constants: Constants, *, places: int = PLACES):
        self.graph, self.model, self.plan, self.batches = task.graph, task.model, task.plan, task.batches
        self.ends, self.constants, self.places, self.seed = ends, constants, places, task.seed
        self.ridges: dict[str, float] = {}

    def run(self) -> tuple[list[Any], list[Any]]:
        """Solve for every weight and return the outputs of the dense and the cut model, batch by batch."""
        dense = [Strand(self._body(self.graph.model, batch)) for batch in self.batches]
        cut = [Strand(self._body(self.model, batch)) for batch in self.batches]
        # `uncompiled` encloses all strands: they end in another order than they start, and each would restore the state
        # of another one.
        with uncompiled():
            try:
                self._meet(dense, cut)
            finally:
                for strand in (*dense, *cut):
                    strand.close()
        return [strand.result for strand in dense], [strand.result for strand in cut]

    def _body(self, model: nn.Module, batch: CalibrationBatch) -> Callable[[Callable[[Any], Any]], Any]:
        """Return the body of one run, which pauses at every weight to be solved for and at the sums of `joining`."""
        joining = self.ends.joining
        alone = self.ends.solvable - joining

        def body(pause: Callable[[Any], Any]) -> Any:
            def on_read(read: Read) -> None:
                name = read.reader.weight
                if name in alone:
                    pause(read)

            walk = Walk(model, self.graph, on_read, pause, joining)
            with torch.no_grad(), walk.running():
                return batch.call.run(model)

        return body

    def _meet(self, dense: Sequence[Strand], cut: Sequence[Strand]) -> None:
        """Bring all runs to the next weight, solve for it, and continue.

        With data-dependent control flow, some batches never reach a weight; they do not contribute to its solution.
        """
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
        """Return the position of a weight in the order in which weights run or join a sum."""
        return self.ends.order[name]

    def _reach(self, strand: Strand, name: str | None) -> None:
        """Advance a run to a weight, or past its position; to the end of the run if `name` is None."""
        while not strand.done and (name is None or self._place(_name(strand.event)) < self._place(name)):
            strand.advance(_answer(strand.event, None))

    def _solve(self, name: str, events: Events) -> WeightChange | None:
        """Solve for a weight from all batches and update it; None where its inputs have not changed."""
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
        """Return a weight with its bias in the last row: (groups, features + 1, outputs), float64."""
        matrix = matrix_of(read.weight.detach().double(), read.reader.dim, read.groups)
        bias = torch.zeros_like(matrix[:, :1])
        if read.bias is not None:
            bias = read.bias.detach().double().reshape(matrix.shape[0], 1, -1)
        return torch.cat([matrix, bias], 1).cpu()

    def _rows(self, name: str, events: Events, start: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the current inputs of the weight and its wanted outputs, batch by batch."""
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
        """Return the output of the dense model here, restricted to the kept outputs."""
        made = applied(self._drawn(batch, name, read, read.x), self._matrix(read)).flatten(1)
        kept = self._kept(name)
        made = made if kept is None else made[:, torch.tensor(kept, device=made.device)]
        return made.unflatten(1, (groups, -1))

    def _kept(self, name: str) -> list[int] | None:
        """Return the kept outputs of a weight, or None for all."""
        return self.plan.positions(name)[self.ends.out_dims[name]] if name in self.plan.sites else None

    def _wanted_of_sum(self, batch: int, name: str, dense: Joined, cut: Joined, seen: Tensor, start: Tensor) -> Tensor:
        """Return the output that makes the sum equal to that of the dense model, given the current other operand."""
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
    """The change of a weight, and of its bias or the constant in its place."""

    weight: Tensor
    shift: Tensor | None

    def of(self, read: Read) -> Tensor:
        """Return the change of the output."""
        if read.window is None:
            x = read.x.movedim(read.channel, -1)
            out = F.linear(x, self.weight if read.reader.dim == 1 else self.weight.T, self.shift)
            return out.movedim(-1, read.channel)
        return read.window.convolved(read.x, self.weight, self.shift, read.groups)


def _answer(event: Any, change: WeightChange | None) -> Any:
    """Return the sum with the change applied, if a run waits at a sum."""
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
    """Return whether both models are at the same weight, with inputs of the same shape except for channels."""
    if _name(dense) != _name(cut):
        return False
    a, b = _read(dense), _read(cut)
    other = [d for d in range(a.x.dim()) if d != a.channel]
    return a.x.dim() == b.x.dim() and all(a.x.shape[d] == b.x.shape[d] for d in other)


def _alike(dense: Any, cut: Any) -> bool:
    """Return whether the inputs of a weight, and what its output is added to, are unchanged so far."""
    if isinstance(cut, Joined):
        return _alike(dense.tail.read, cut.tail.read) and torch.equal(dense.other, cut.other)
    return dense.x.shape == cut.x.shape and torch.equal(dense.x, cut.x)


__all__ = ["Layerwise"]
