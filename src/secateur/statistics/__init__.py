"""What calibration data tell of a model: one pass feeds every criterion and every recovery step of dense moments."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..errors import InputError, PruningError
from ..graph import Graph
from ..progress import watched
from ..trace.keeping import kept, set_modes
from .batches import Batch, batches
from .collectors import Collector, Gates, Gradients, Gram, Moments, Sums
from .curvature import add_curvature
from .listening import Listener, Read

Loss: TypeAlias = "Callable[[Any, Any], Tensor]"

NEEDS = {
    "moments": "sums over what each weight reads, channel by channel",
    "gram": "second moments of what each weight reads",
    "gates": "derivatives of the loss by a factor on each unit, example by example",
    "gradients": "gradients of parameters",
    "curvature": "the Hessian's diagonal, estimated",
}
NEED_LOSS = frozenset({"gates", "gradients", "curvature"})
"""What cannot be collected without a loss."""
PLACES = 64
"""Of an image or a sequence so many places are looked at for second moments, drawn at random."""


@dataclass(frozen=True)
class Statistics:
    """Sums over calibration data by (name, quantity); see `secateur.statistics.collectors` for what these are."""

    examples: int
    batches: int
    needs: frozenset[str]
    sums: Mapping[tuple[str, str], Tensor] = field(repr=False)

    def get(self, name: str, quantity: str) -> Tensor | None:
        """A sum, or None where nothing was heard of it."""
        return self.sums.get((name, quantity))


def calibrate(
    graph: Graph,
    data: Iterable[Any],
    *,
    needs: Collection[str] = ("moments",),
    loss: Loss | None = None,
    places: int = PLACES,
    seed: int = 0,
    progress: bool = False,
) -> Statistics:
    """Run the model once over `data` in evaluation mode and sum up what is needed; the model is left as it is.

    data: batches of (inputs, targets), or of inputs alone (a tensor, or a dict of keyword arguments). loss:
    (output, targets) -> scalar, the mean over the batch; needed for "gates", "gradients" and "curvature". places: how
    many places of an image or a sequence "gram" looks at. Memory does not grow with the number of batches. Where
    several processes run (`torch.distributed`), each brings its own data and all get the same sums.

    Raises `InputError` for data that hold nothing, needs without a loss, and `PruningError` for a loss that is not
    finite.

    >>> import secateur
    >>> graph = secateur.trace(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), torch.zeros(1, 4))
    >>> found = calibrate(graph, [torch.ones(3, 4), torch.ones(2, 4)])
    >>> found.examples, found.get("1.weight", "count")
    (5, tensor(5., dtype=torch.float64))
    """
    needs = _checked(needs, loss)
    model, sums = graph.model, Sums()
    device = next((p.device for p in model.parameters()), None)
    examples, number = 0, 0
    with warnings.catch_warnings(), kept(model), _differentiable(model, NEED_LOSS & needs):
        warnings.simplefilter("ignore")
        set_modes(model, training=False)
        collectors: list[Collector] = []
        for batch in _watched(batches(data, device), data, progress):
            if not collectors:
                collectors = _collectors(needs, graph, sums, batch, places, seed)
            _run(model, graph, batch, collectors, loss)
            if "curvature" in needs:
                assert loss is not None
                add_curvature(sums, model, batch, loss, f"{seed} {number}")
            examples, number = examples + batch.examples, number + 1
    return _reduced(Statistics(examples, number, frozenset(needs), sums))


def _checked(needs: Collection[str], loss: Loss | None) -> frozenset[str]:
    unknown = next((need for need in needs if need not in NEEDS), None)
    if unknown is not None:
        raise InputError(f"needs={unknown!r}; known: {', '.join(NEEDS)}")
    graded = next((need for need in sorted(NEED_LOSS) if need in needs), None)
    if graded is not None and loss is None:
        raise InputError(f"{graded} are derivatives of a loss; give loss=, such as torch.nn.functional.cross_entropy")
    return frozenset(needs)


def _collectors(
    needs: frozenset[str], graph: Graph, sums: Sums, batch: Batch, places: int, seed: int
) -> list[Collector]:
    """One for each need. `batch` shows where examples lie."""
    made: dict[str, Callable[[], Collector]] = {
        "moments": lambda: Moments(sums),
        "gram": lambda: Gram(sums, places, seed),
        "gates": lambda: Gates(sums, graph, _batch_dims(graph, batch)),
        "gradients": lambda: Gradients(sums),
    }
    return [make() for need, make in made.items() if need in needs]


def _run(model: nn.Module, graph: Graph, batch: Batch, collectors: Collection[Collector], loss: Loss | None) -> None:
    differentiate = any(collector.gradients for collector in collectors)

    def hear(read: Read) -> Tensor | None:
        new = [collector.hear(read) for collector in collectors]
        return next((x for x in new if x is not None), None)

    with torch.set_grad_enabled(differentiate):
        with Listener(model, graph.readers, hear).running():
            output = model(*batch.call.args, **batch.call.kwargs)
        if differentiate:
            assert loss is not None
            value = loss(output, batch.targets)
            if not bool(torch.isfinite(value.detach())):
                raise PruningError(f"the loss of a calibration batch is {value.item()}; look at the data and the loss")
            value.backward()
    for collector in collectors:
        collector.after(model, batch.examples)
    model.zero_grad(set_to_none=True)


@contextmanager
def _differentiable(model: nn.Module, wanted: Collection[str]) -> Iterator[None]:
    """Within, every parameter can be differentiated, for a unit behind frozen ones has a gradient too."""
    before = [(p, p.requires_grad, p.grad) for p in model.parameters() if p.is_floating_point()]
    try:
        for parameter, _, _ in before if wanted else ():
            parameter.requires_grad_(True)
            parameter.grad = None
        yield
    finally:
        for parameter, learns, gradient in before:
            parameter.requires_grad_(learns)
            parameter.grad = gradient


def _batch_dims(graph: Graph, batch: Batch) -> dict[tuple[str, int], int]:
    """Along which dimension of what each weight reads examples lie: the one that shrinks with a smaller batch."""
    half = batch.examples // 2
    if not half:  # one example is all there is
        return {}
    shapes: list[dict[tuple[str, int], torch.Size]] = []
    for part in (batch.first(half), batch):
        seen: dict[tuple[str, int], torch.Size] = {}
        with torch.no_grad(), Listener(graph.model, graph.readers, lambda read, seen=seen: _note(seen, read)).running():
            graph.model(*part.call.args, **part.call.kwargs)
        shapes.append(seen)
    found = {}
    for key, whole in shapes[1].items():
        part = shapes[0].get(key, whole)
        changed = [d for d in range(len(whole)) if len(part) == len(whole) and part[d] != whole[d]]
        if len(changed) == 1 and whole[changed[0]] == batch.examples:
            found[key] = changed[0]
    return found


def _note(seen: dict[tuple[str, int], torch.Size], read: Read) -> None:
    seen[read.reader.weight, read.number] = read.x.shape


def _watched(found: Iterator[Batch], data: Iterable[Any], progress: bool) -> Iterator[Batch]:
    if not progress:
        return found
    return watched("calibrating", found, len(data) if hasattr(data, "__len__") else 0)  # type: ignore[arg-type]


def _reduced(statistics: Statistics) -> Statistics:
    """Sums over all processes, where there are several."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return statistics
    counts = torch.tensor([statistics.examples, statistics.batches])
    for tensor in (counts, *(statistics.sums[key] for key in sorted(statistics.sums))):
        _all_reduce(tensor)
    return Statistics(int(counts[0]), int(counts[1]), statistics.needs, statistics.sums)


def _all_reduce(tensor: Tensor) -> None:
    """In place; NCCL reduces what is on a device only."""
    if torch.distributed.get_backend() == "nccl":
        there = tensor.cuda()
        torch.distributed.all_reduce(there)
        tensor.copy_(there)
    else:
        torch.distributed.all_reduce(tensor)


__all__ = ["NEEDS", "NEED_LOSS", "Loss", "Statistics", "calibrate"]
