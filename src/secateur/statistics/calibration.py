"""`calibrate`: run a model over batches of data, and collect the statistics that criteria and recovery steps need."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.anatomy.calls import failure
from secateur.anatomy.keeping import kept, set_modes
from secateur.anatomy.running import seeded
from secateur.anatomy.slots import replace_held, slots
from secateur.apply.tensors import alike
from secateur.base.hashing import of_function
from secateur.base.paths import PathLike
from secateur.base.process import trainable
from secateur.base.progress import bar
from secateur.errors import InputError, PruningError
from secateur.graph.graph import Graph
from secateur.statistics.batches import CalibrationBatch, NoBatches, batches
from secateur.statistics.collectors import Collector, Gates, GradientSums, Gram, Moments
from secateur.statistics.curvature import add_curvature
from secateur.statistics.listening import Listener, Read
from secateur.statistics.processes import everywhere, several, summed, together
from secateur.statistics.store import DataHash, Entry, Part, Store, hashed
from secateur.statistics.sums import NEED_LOSS, NEEDS, PLACES, Loss, Statistics, Sums


@trainable
def calibrate(
    graph: Graph,
    data: Iterable[Any],
    *,
    needs: Collection[str] = ("moments",),
    loss: Loss | None = None,
    places: int = PLACES,
    seed: int = 0,
    progress: bool = False,
    cache: PathLike | None = None,
) -> Statistics:
    """Run the model once over `data` in evaluation mode and sum up what is needed; the model is left as it is.

    data: batches of (inputs, targets), or of inputs alone (a tensor, or a dict of keyword arguments), examples along
    the first dimension. Random numbers that they are made with start at `seed`. loss: (output, targets) -> scalar, the
    mean over the batch; needed for "gates", "gradients" and "curvature". places: how many places of an image or a
    sequence "gram" looks at. Memory does not grow with the number of batches. Where several processes run
    (`torch.distributed`), each brings its own data, which may be none, and all get the same sums; if one fails, all
    raise.

    cache: a folder for the sums, so that they are read instead of made when the same weights, ops, data, seed and (for
    what is differentiated) loss come again; what a file lacks is all that is run for. The data are gone through twice
    then. A loss is known by its name, its source, its defaults and what it closes over, not by the functions that it
    calls: empty the folder when these change.

    Raises `InputError` for data that hold nothing, needs without a loss and a loss that gives no scalar, and
    `PruningError` for a loss that is not finite.

    >>> import secateur
    >>> graph = secateur.trace(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), torch.zeros(1, 4))
    >>> found = calibrate(graph, [torch.ones(3, 4), torch.ones(2, 4)])
    >>> found.examples, found.get("1.weight", "count")
    (5, tensor(5., dtype=torch.float64))
    """
    wanted = _checked(needs, loss)
    task = _Task(graph, data, loss, places, seed, progress)
    parts = task.run(wanted)[0] if cache is None else _cached(task, wanted, cache)
    part = next(iter(parts.values()), Part(0, 0, {}))
    merged = {key: tensor for found in parts.values() for key, tensor in found.sums.items()}
    return Statistics(part.examples, part.batches, wanted, merged)


def _cached(task: _Task, wanted: frozenset[str], cache: PathLike) -> dict[str, Part]:
    """What the folder holds, and the rest by a run. What has been run is kept by the data that the run really saw."""
    if isinstance(task.data, Iterator):
        raise InputError(
            f"data is a {type(task.data).__name__}, which can be gone through only once; with cache= it is gone through"
            " twice: give a list or a DataLoader"
        )
    store = Store.opened(cache, task.graph, seed=task.seed)

    def entry(need: str, data: str) -> Entry:
        marks = {"places": task.places} if need == "gram" else {}
        return store.at(need, data, loss=of_function(task.loss if need in NEED_LOSS else None), **marks)

    with seeded(task.seed):
        data = hashed(task.batches())
    held = {need: entry(need, data).read() for need in sorted(wanted)}
    parts = {need: part for need, part in held.items() if everywhere(part is not None) and part is not None}
    missing = wanted - set(parts)
    if missing:
        made, data = task.run(missing, hashing=True)
        for need, part in made.items():
            entry(need, data).write(part)
        parts |= made
    return parts


@dataclass(frozen=True, slots=True)
class _Task:
    """A calibration: all but what it is to sum up."""

    graph: Graph
    data: Iterable[Any]
    loss: Loss | None
    places: int
    seed: int
    progress: bool

    def batches(self) -> Iterator[CalibrationBatch]:
        """On the device of the model. One of several processes may have none."""
        device = next((p.device for p in self.graph.model.parameters()), None)
        try:
            yield from batches(self.data, device)
        except NoBatches:
            if not several():
                raise

    def run(self, needs: frozenset[str], *, hashing: bool = False) -> tuple[dict[str, Part], str]:
        """The sums of each need, over all processes, and what the data were."""
        model, seen = self.graph.model, DataHash()
        sums = {need: Sums() for need in sorted(needs)}

        def run() -> tuple[int, int]:
            examples, number = 0, 0
            collectors = _collectors(self, sums)
            with (
                warnings.catch_warnings(),
                seeded(self.seed),
                _unchanged(model, differentiated=bool(NEED_LOSS & needs)),
            ):
                warnings.simplefilter("ignore")  # of the model's own ops, which trace has shown already
                set_modes(model, training=False)
                with bar("calibrating", _length(self.data), shown=self.progress) as step:
                    for batch in self.batches():
                        if hashing:
                            seen.add(batch)
                        _run(self, batch, collectors)
                        if "curvature" in sums:
                            assert self.loss is not None
                            add_curvature(sums["curvature"], model, batch, self.loss, f"{self.seed} {number}")
                        examples, number = examples + batch.examples, number + 1
                        step("")
            return examples, number

        counts = together(run)
        parts = {}
        for need, mine in sums.items():
            (examples, number), total = summed(counts, mine)
            parts[need] = Part(examples, number, total)
        if parts and not next(iter(parts.values())).batches:
            raise NoBatches
        return parts, seen.text() if hashing else ""


def _checked(needs: Collection[str], loss: Loss | None) -> frozenset[str]:
    unknown = next((need for need in needs if need not in NEEDS), None)
    if unknown is not None:
        raise InputError(f"needs={unknown!r}; known: {', '.join(NEEDS)}")
    graded = next((need for need in sorted(NEED_LOSS) if need in needs), None)
    if graded is not None and loss is None:
        raise InputError(f"{graded} are derivatives of a loss; give loss=, such as torch.nn.functional.cross_entropy")
    return frozenset(needs)


def _collectors(task: _Task, sums: Mapping[str, Sums]) -> list[Collector]:
    """One for each need."""
    made: dict[str, Callable[[Sums], Collector]] = {
        "moments": Moments,
        "gram": lambda own: Gram(own, task.places, task.seed),
        "gates": lambda own: Gates(own, task.graph),
        "gradients": GradientSums,
    }
    return [made[need](own) for need, own in sums.items() if need in made]


def _run(task: _Task, batch: CalibrationBatch, collectors: Collection[Collector]) -> None:
    model = task.graph.model
    differentiate = any(collector.gradients for collector in collectors)
    if not collectors:
        return

    def hear(read: Read) -> Tensor | None:
        new = [collector.hear(read) for collector in collectors]
        return next((x for x in new if x is not None), None)

    for collector in collectors:
        collector.before(batch)
    with torch.set_grad_enabled(differentiate):
        with Listener(model, task.graph.readers, hear, parts=True).running():
            output = _output(model, batch)
        if differentiate:
            assert task.loss is not None
            _scalar(task.loss(output, batch.targets)).backward()
    for collector in collectors:
        collector.after(model, batch.examples)
    model.zero_grad(set_to_none=True)


def _output(model: nn.Module, batch: CalibrationBatch) -> Any:
    """What the model gives for a batch. Raises `InputError` where it does not fit the model."""
    try:
        return batch.call.run(model)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InputError(
            f"{failure(error, batch.call, 'a batch of the calibration data')}\n"
            "give data= batches of (inputs, targets), with inputs of the shape and type that its forward takes"
        ) from error


def _scalar(value: Any) -> Tensor:
    """The loss of a batch, if it can be differentiated."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        given = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise InputError(f"the loss of a calibration batch is {given}; give its mean over the batch, a scalar tensor")
    if not bool(torch.isfinite(value.detach())):
        raise PruningError(f"the loss of a calibration batch is {value.item()}; look at the data and the loss")
    if not value.requires_grad:
        raise InputError(
            "the loss of a calibration batch does not depend on the parameters: the model or the loss runs under"
            " torch.no_grad(), or detaches what it computes"
        )
    return value.reshape(())


@contextmanager
def _unchanged(model: nn.Module, *, differentiated: bool) -> Iterator[None]:
    """Within, every parameter can be differentiated, for a unit behind frozen ones has a gradient too. Afterwards the
    model is as it was, with its gradients and what is written over in its buffers."""
    with kept(model):
        _make_usual(model)
        before = [(p, p.requires_grad, p.grad) for p in model.parameters() if p.is_floating_point()]
        buffers = [(buffer, buffer._version, buffer.clone()) for buffer in model.buffers()]
        try:
            for parameter, _, _ in before:
                parameter.requires_grad_(parameter.requires_grad or differentiated)
                parameter.grad = None
            yield
        finally:
            for parameter, learns, gradient in before:
                parameter.requires_grad_(learns)
                parameter.grad = gradient
            for buffer, version, held in buffers:
                if buffer._version != version:
                    buffer.copy_(held)


def _make_usual(model: nn.Module) -> None:
    """Copies in place of what was made under inference mode, which cannot be differentiated."""
    made: dict[int, Tensor] = {}
    for slot in slots(model):
        if slot.tensor.is_inference():
            slot.table[slot.leaf] = made.setdefault(id(slot.tensor), alike(slot.tensor, slot.tensor.detach().clone()))
    replace_held(model, made)


def _length(data: Iterable[Any]) -> int | None:
    return len(data) if isinstance(data, Sized) else None
