"""Importance criteria for single weights: one score for each weight; those with the lowest scores become zero.

A custom criterion is a function (name, weight) -> scores of the weight's shape.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from secateur.anatomy.running import seeded
from secateur.base.table import Table
from secateur.base.text import listed
from secateur.errors import InputError, nearest
from secateur.graph.graph import Graph
from secateur.importance.input_moments import InputMoments
from secateur.statistics.batches import NoBatches, batches
from secateur.statistics.calibration import calibrate
from secateur.statistics.sums import NEED_LOSS, Loss, Statistics
from secateur.trace.tracing import trace_calls

Scoring: TypeAlias = "Callable[[str, Tensor], Tensor]"


@dataclass(frozen=True, slots=True)
class KnownWeights:
    """What a criterion may read: the seed, and the graph and statistics of a calibration run if there was one."""

    seed: int
    graph: Graph | None = None
    statistics: Statistics | None = None

    def mean(self, name: str, quantity: str) -> Tensor:
        """Return the mean over batches of a recorded quantity of a weight; zero where none was recorded."""
        assert self.statistics is not None
        found = self.statistics.get(name, quantity)
        return torch.zeros(()) if found is None else found / self.statistics.batches


class WeightCriterion(Protocol):
    """A criterion. needs: the statistics that it reads, among `secateur.statistics.NEEDS`."""

    @property
    def needs(self) -> frozenset[str]: ...

    def __call__(self, known: KnownWeights) -> Scoring:
        """Return a function from the name and the values of a weight to its scores."""
        ...


@dataclass(frozen=True)
class Magnitude:
    """|w|, the magnitude of a weight.

    Reference:
        Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NIPS 2015, section 3.
    """

    needs: frozenset[str] = frozenset()

    def __call__(self, known: KnownWeights) -> Scoring:
        return lambda name, weight: weight.abs()


@dataclass(frozen=True)
class WeightRandom:
    """Uniform random scores in [0, 1): the baseline for every other criterion."""

    needs: frozenset[str] = frozenset()

    def __call__(self, known: KnownWeights) -> Scoring:
        generator = torch.Generator().manual_seed(known.seed)
        return lambda name, weight: torch.rand(weight.shape, generator=generator).to(weight.device)


@dataclass(frozen=True)
class WeightTaylor:
    """E[(w dL/dw)²] over batches.

    Reference:
        Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, equation 8.
    """

    needs: frozenset[str] = frozenset({"gradients"})

    def __call__(self, known: KnownWeights) -> Scoring:
        return lambda name, weight: weight.square() * known.mean(name, "gradient_square").to(weight)


@dataclass(frozen=True)
class WeightSnip:
    """|w dL/dw| with the gradient of the mean loss over all batches.

    Reference:
        Lee et al., "SNIP: Single-shot Network Pruning based on Connection Sensitivity", ICLR 2019, equations 5 and 6.
    """

    needs: frozenset[str] = frozenset({"gradients"})

    def __call__(self, known: KnownWeights) -> Scoring:
        return lambda name, weight: (weight * known.mean(name, "gradient").to(weight)).abs()


@dataclass(frozen=True)
class WeightWanda:
    """|w_oi| sqrt(E[x_i²]), where x_i is the input channel that w_oi multiplies; E is over examples and positions.

    The paper compares the weights of one output with each other: scope="output".

    Reference:
        Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024, equation 1.
    """

    needs: frozenset[str] = frozenset({"moments"})

    def __call__(self, known: KnownWeights) -> Scoring:
        return lambda name, weight: weight.abs() * _rms_of_inputs(name, weight, known)


def _rms_of_inputs(name: str, weight: Tensor, known: KnownWeights) -> Tensor:
    """Return sqrt(E[x²]) of the input of each weight, in a shape that broadcasts to the weight's."""
    assert known.graph is not None
    assert known.statistics is not None
    reader = known.graph.readers.get(name)
    if reader is None or known.statistics.get(reader.weight, "count") is None:
        raise InputError(
            f"criterion='wanda' needs the inputs of {name}, and the calibration run recorded none\n"
            f"leave it out with protect={name!r}, or use another criterion"
        )
    rms = InputMoments(reader, weight, known.statistics).rms.to(weight)
    if len(rms) == weight.shape[reader.dim]:
        return rms.view([-1 if d == reader.dim else 1 for d in range(weight.dim())])
    by_group = rms.view(reader.groups, -1).repeat_interleave(weight.shape[0] // reader.groups, 0)
    return by_group.view(*by_group.shape, *[1] * (weight.dim() - 2))


CRITERIA: Table[str, WeightCriterion] = Table(
    "criteria named",
    {
        "magnitude": Magnitude(),
        "taylor": WeightTaylor(),
        "snip": WeightSnip(),
        "wanda": WeightWanda(),
        "random": WeightRandom(),
    },
)
"""The names that `criterion=` takes."""


@dataclass(frozen=True)
class Measure:
    """A criterion, and the data that it reads.

    data: batches of (inputs, targets), which can be iterated several times; loss: (output, targets) -> scalar.
    """

    criterion: str | Scoring = "magnitude"
    data: Iterable[Any] | None = None
    loss: Loss | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if callable(self.criterion):
            return
        if self.criterion not in CRITERIA:
            near = nearest(str(self.criterion), CRITERIA)
            raise InputError(
                f"criterion={self.criterion!r}{near}\n"
                f"known: {', '.join(CRITERIA)}, or a function (name, weight) -> scores"
            )
        needs = CRITERIA[self.criterion].needs
        if needs and self.data is None:
            raise InputError(
                f"criterion={self.criterion!r} is read from data\npass data=, batches of (inputs, targets)"
            )
        if needs & NEED_LOSS and self.loss is None:
            raise InputError(
                f"criterion={self.criterion!r} reads derivatives of the loss\n"
                "pass loss=, such as torch.nn.functional.cross_entropy"
            )

    def on(self, model: Callable[[], nn.Module]) -> Scoring:
        """Return the function from name and weight to scores, after a calibration run if the criterion needs one.

        model: returns a model without masks; called only for a calibration run.
        """
        if callable(self.criterion):
            return self.criterion
        criterion = CRITERIA[self.criterion]
        if not criterion.needs:
            return criterion(KnownWeights(self.seed))
        assert self.data is not None
        with seeded(self.seed):
            first, every = _first_of(self.data)
        graph = trace_calls(model(), [first], run="real")
        statistics = calibrate(graph, every, needs=criterion.needs, loss=self.loss, seed=self.seed)
        return criterion(KnownWeights(self.seed, graph, statistics))


def _first_of(data: Iterable[Any]) -> tuple[Any, Iterable[Any]]:
    """Return how the model is called on the first batch, and all batches."""
    rest = iter(data)
    head: Sequence[Any] = list(itertools.islice(rest, 1))
    if not head:
        raise NoBatches
    first = next(batches(head)).first(2).call
    return first, itertools.chain(head, rest)


def checked(name: str, scores: Any, weight: Tensor) -> Tensor:
    """Return the scores of a weight in float32 or wider. Raises `InputError` for a wrong type, shape or nan."""
    if not isinstance(scores, Tensor) or scores.shape != weight.shape:
        what = f"{tuple(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise InputError(
            f"the criterion returned {what} for {name}\nit must return scores of shape {tuple(weight.shape)}"
        )
    if bool(scores.isnan().any()):
        places = [str(tuple(place)) for place in scores.isnan().nonzero().tolist()]
        raise InputError(f"the scores of {name} are not numbers (nan) at {listed(places, 3)}; check its weights")
    return scores.detach().to(weight.device, torch.promote_types(scores.dtype, torch.float32))


__all__ = ["CRITERIA", "Measure", "Scoring"]
