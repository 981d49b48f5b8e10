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
    """Run the model of a graph once over `data` in evaluation mode, and sum up the statistics that are needed.

    The model is not changed, and memory does not grow with the number of batches. With several processes
    (`torch.distributed`), each passes its own data, possibly none, and all receive the same sums; if one fails, all
    raise.

    Args:
        graph: the Graph of the model.
        data: batches of (inputs, targets), or of inputs alone (a tensor, or a dict of keyword arguments), with the
            examples along the first dimension.
        needs: names of statistics, see `NEEDS`.
        loss: a function (output, targets) -> scalar tensor, the mean over the batch. Required for "gates", "gradients"
            and "curvature".
        places: the number of positions per image or sequence that are sampled for "gram".
        seed: the seed of random numbers, including those that the data draw.
        progress: show a progress bar.
        cache: a folder that stores the sums. They are read from it when the weights, ops, data, seed and (for
            derivatives) loss are the same; only missing statistics are computed. The data are then iterated twice. A
            loss is identified by its name, source, defaults and closure, not by the functions that it calls: empty the
            folder if those change.

    Returns:
        The sums over all examples, in float64 on the CPU.

    Raises:
        InputError: if the data contain no examples, if a loss is needed and missing, or if the loss is not a scalar.
        PruningError: if the loss is not finite.

    Example:
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
    """Read sums from the folder and compute the rest, stored under the hash of the data that the run really saw."""
    if isinstance(task.data, Iterator):
        raise InputError(
            f"data is a {type(task.data).__name__}, which can be iterated only once; with cache= it is read twice\n"
            "pass a list or a DataLoader"
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
    """The arguments of a calibration, except the statistics that it collects."""

    graph: Graph
    data: Iterable[Any]
    loss: Loss | None
    places: int
    seed: int
    progress: bool

    def batches(self) -> Iterator[CalibrationBatch]:
        """Yield the batches on the device of the model. One of several processes may have none."""
        device = next((p.device for p in self.graph.model.parameters()), None)
        try:
            yield from batches(self.data, device)
        except NoBatches:
            if not several():
                raise

    def run(self, needs: frozenset[str], *, hashing: bool = False) -> tuple[dict[str, Part], str]:
        """Return the sums of each need over all processes, and the hash of the data."""
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
                warnings.simplefilter("ignore")  # of the model's own ops, which were shown during the trace
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
        raise InputError(f"needs={unknown!r}\nknown: {', '.join(NEEDS)}")
    graded = next((need for need in sorted(NEED_LOSS) if need in needs), None)
    if graded is not None and loss is None:
        raise InputError(f"{graded} are derivatives of a loss\npass loss=, such as torch.nn.functional.cross_entropy")
    return frozenset(needs)


def _collectors(task: _Task, sums: Mapping[str, Sums]) -> list[Collector]:
    """Return one collector for each need."""
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
    """Return the output of the model for a batch. Raises `InputError` if the batch does not fit the model."""
    try:
        return batch.call.run(model)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InputError(
            f"{failure(error, batch.call, 'a batch of the calibration data')}\n"
            "pass data= batches of (inputs, targets), with inputs of the shape and dtype that its forward takes"
        ) from error


def _scalar(value: Any) -> Tensor:
    """Return the loss of a batch. Raises if it is not a finite scalar that can be differentiated."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        given = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise InputError(f"the loss of a calibration batch is {given}\nreturn its mean over the batch, a scalar tensor")
    if not bool(torch.isfinite(value.detach())):
        raise PruningError(f"the loss of a calibration batch is {value.item()}\ncheck the data and the loss")
    if not value.requires_grad:
        raise InputError(
            "the loss of a calibration batch does not depend on the parameters: the model or the loss runs under"
            " torch.no_grad(), or detaches what it computes"
        )
    return value.reshape(())


@contextmanager
def _unchanged(model: nn.Module, *, differentiated: bool) -> Iterator[None]:
    """Make every parameter require a gradient, because units after frozen layers have gradients too.

    On exit the model is as before, including its gradients and the buffers that were overwritten."""
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
    """Replace tensors that were created in inference mode, which cannot be differentiated, by copies."""
    made: dict[int, Tensor] = {}
    for slot in slots(model):
        if slot.tensor.is_inference():
            slot.table[slot.leaf] = made.setdefault(id(slot.tensor), alike(slot.tensor, slot.tensor.detach().clone()))
    replace_held(model, made)


def _length(data: Iterable[Any]) -> int | None:
    return len(data) if isinstance(data, Sized) else None
