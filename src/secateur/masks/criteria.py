"""What tells weights that matter from those that do not: one number for each weight, the lowest become zero.

A user's own criterion is a function (name, weight) -> scores of the same shape.
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
    """What a criterion may read."""

    seed: int
    graph: Graph | None = None
    statistics: Statistics | None = None

    def heard(self, name: str, quantity: str) -> Tensor:
        """The mean over batches of what was summed up of a weight; zero where nothing reached it."""
        assert self.statistics is not None
        found = self.statistics.get(name, quantity)
        return torch.zeros(()) if found is None else found / self.statistics.batches


class WeightCriterion(Protocol):
    """needs: of calibration data, among `secateur.statistics.NEEDS`."""

    @property
    def needs(self) -> frozenset[str]: ...

    def __call__(self, known: KnownWeights) -> Scoring:
        """A function from name and weight to scores."""
        ...


@dataclass(frozen=True)
class Magnitude:
    """|w|

    Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NIPS 2015, section 3.
    """

    needs: frozenset[str] = frozenset()

    def __call__(self, known: KnownWeights) -> Scoring:
        return lambda name, weight: weight.abs()


@dataclass(frozen=True)
class WeightRandom:
    """Uniform in [0, 1): what every other criterion must beat."""

    needs: frozenset[str] = frozenset()

    def __call__(self, known: KnownWeights) -> Scoring:
        generator = torch.Generator().manual_seed(known.seed)
        return lambda name, weight: torch.rand(weight.shape, generator=generator).to(weight.device)


@dataclass(frozen=True)
class WeightTaylor:
    """E[(w dL/dw)²] over batches.

    Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, equation 8.
    """

    needs: frozenset[str] = frozenset({"gradients"})

    def __call__(self, known: KnownWeights) -> Scoring:
        return lambda name, weight: weight.square() * known.heard(name, "gradient_square").to(weight)


@dataclass(frozen=True)
class WeightSnip:
    """|w dL/dw| with the gradient of the mean loss over all batches.

    Lee et al., "SNIP: Single-shot Network Pruning based on Connection Sensitivity", ICLR 2019, equations 5 and 6.
    """

    needs: frozenset[str] = frozenset({"gradients"})

    def __call__(self, known: KnownWeights) -> Scoring:
        return lambda name, weight: (weight * known.heard(name, "gradient").to(weight)).abs()


@dataclass(frozen=True)
class WeightWanda:
    """|w_oi| sqrt(E[x_i²]), x_i the input channel that w_oi is multiplied by, over examples and places.

    Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024, equation 1. There the
    weights of one output are compared with each other: scope="output".
    """

    needs: frozenset[str] = frozenset({"moments"})

    def __call__(self, known: KnownWeights) -> Scoring:
        return lambda name, weight: weight.abs() * _loudness(name, weight, known)


def _loudness(name: str, weight: Tensor, known: KnownWeights) -> Tensor:
    """sqrt(E[x²]) of what each weight reads, in a shape that broadcasts to the weight's."""
    assert known.graph is not None
    assert known.statistics is not None
    reader = known.graph.readers.get(name)
    if reader is None or known.statistics.get(reader.weight, "count") is None:
        raise InputError(
            f"criterion='wanda' needs to know what {name} reads, and the calibration run did not tell\n"
            f"leave it out with protect={name!r}, or take another criterion"
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

    data: batches of (inputs, targets), which can be gone through again; loss: (output, targets) -> scalar.
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
                f"criterion={self.criterion!r} is read from data; give data=, batches of (inputs, targets)"
            )
        if needs & NEED_LOSS and self.loss is None:
            raise InputError(
                f"criterion={self.criterion!r} reads derivatives of the loss; give loss=, such as "
                "torch.nn.functional.cross_entropy"
            )

    def on(self, model: Callable[[], nn.Module]) -> Scoring:
        """The function from name and weight to scores, after a calibration run where it needs one.

        model: gives one that wears no masks, and is asked where it is needed.
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
    """How the model is called on the first batch, and all batches."""
    rest = iter(data)
    head: Sequence[Any] = list(itertools.islice(rest, 1))
    if not head:
        raise NoBatches
    first = next(batches(head)).first(2).call
    return first, itertools.chain(head, rest)


def checked(name: str, scores: Any, weight: Tensor) -> Tensor:
    """Scores of a weight, float32 or wider. Raises `InputError` for what are none."""
    if not isinstance(scores, Tensor) or scores.shape != weight.shape:
        what = f"{tuple(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise InputError(
            f"the criterion gave {what} for {name}; it must give scores of its shape {tuple(weight.shape)}"
        )
    if bool(scores.isnan().any()):
        places = [str(tuple(place)) for place in scores.isnan().nonzero().tolist()]
        raise InputError(f"the scores of {name} are not numbers (nan) at {listed(places, 3)}; check its weights")
    return scores.detach().to(weight.device, torch.promote_types(scores.dtype, torch.float32))


__all__ = ["CRITERIA", "Measure", "Scoring"]
