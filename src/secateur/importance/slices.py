"""The input of a criterion: sums over the slices that belong to each unit of an axis, and its statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from secateur.anatomy.masked import worn
from secateur.graph.consumers import Consumer, matrix_of
from secateur.graph.graph import Graph
from secateur.graph.parts import PrunableAxis, SiteUse
from secateur.graph.units import holds_inner_units, per_unit, positions_by_unit, readers_by_axis, shape_of
from secateur.importance.input_moments import InputMoments
from secateur.statistics.sums import Statistics
from secateur.terms import Term

Element: TypeAlias = "Callable[[str, Tensor], Tensor]"
"""A function from the name and the values of a parameter to one number for each value."""

NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda scores: scores.new_ones(()),
    "mean": lambda scores: scores.mean(),
    "max": lambda scores: scores.abs().max(),
    "sum": lambda scores: scores.sum(),
    "l2": lambda scores: torch.linalg.vector_norm(scores),
}
"""The possible divisors of an axis' scores, which make axes comparable."""

# The quantity that each need accumulates for parameters.
_OF_PARAMETERS = {"gradients": "gradient", "curvature": "curvature"}


@dataclass(frozen=True, slots=True)
class KnownTensors:
    """All tensors that criteria may read; `effective` has parameters after weight normalization and masking."""

    parameters: Mapping[str, Tensor]
    effective: Mapping[str, Tensor]
    dims: Mapping[str, tuple[Term, ...]]
    statistics: Statistics | None = None

    @staticmethod
    def of(graph: Graph, statistics: Statistics | None = None) -> KnownTensors:
        """Collect the tensors of the model of a graph."""
        parameters = dict(graph.model.named_parameters())
        dims = {name: site.dims for name, site in graph.sites.items()}
        effective = {**parameters, **_renormed(graph, parameters), **_masked(graph, parameters)}
        return KnownTensors(parameters, effective, dims, statistics)


def _renormed(graph: Graph, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the effective values of weights that are divided by their norm and scaled by a gain."""
    found = {}
    for renorm in graph.effects.renorms:
        if renorm.of in parameters and renorm.name in parameters:
            weight = parameters[renorm.of].detach()
            others = [d for d in range(weight.dim()) if d != renorm.dim]
            norms = torch.linalg.vector_norm(weight, 2, others, keepdim=True)
            found[renorm.of] = weight * (parameters[renorm.name].detach() / norms)
    return found


def _masked(graph: Graph, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the effective values of masked weights."""
    found = {id(one.parameter): one for one in worn(graph.model).values()}
    return {name: found[id(tensor)].weight() for name, tensor in parameters.items() if id(tensor) in found}


class Slices:
    """Parameters by role, and their statistics."""

    shape: tuple[int, ...]

    def __init__(self, uses: Sequence[SiteUse], known: KnownTensors):
        self._sites = uses
        self._known = known

    def has(self, role: str) -> bool:
        """Return whether any parameter has this role."""
        return any(True for _ in self._uses(role))

    def knows(self, quantity: str) -> bool:
        """Return whether calibration recorded this quantity of any of the parameters."""
        statistics = self._known.statistics
        return statistics is not None and any(statistics.get(use.name, quantity) is not None for use in self._sites)

    def parameter_mean(self, name: str, quantity: str) -> Tensor:
        """Return the mean of a quantity over calibration batches, in the parameter's shape, or zeros."""
        statistics = self._known.statistics
        assert statistics is not None, "score() refuses criteria whose needs were not collected"
        found = statistics.get(name, quantity)
        return torch.zeros_like(self._known.parameters[name]) if found is None else found / statistics.batches

    def power_sum(self, role: str, p: float) -> Tensor:
        """Return the sum of |w|^p over each unit's slices of every parameter of a role: `shape`, float64."""
        total = torch.zeros(self.shape, dtype=torch.float64)
        for use in self._uses(role):
            tensor = self._known.effective[use.name].detach()
            others = [d for d in range(tensor.dim()) if d != use.dim]
            tensor = tensor.abs() if tensor.is_complex() else tensor
            whole = tensor if tensor.dtype == torch.float64 else tensor.float()
            norms = torch.linalg.vector_norm(whole, p, others) if others else whole.abs()
            total += self._by_unit(norms.double().cpu() ** p, use)
        return total

    def unit_sum(self, role: str, element: Element) -> Tensor:
        """Return the sum of `element(name, w)` over each unit's slices of every stored parameter w of a role.

        Returns:
            A float64 tensor of `shape`.
        """
        total = torch.zeros(self.shape, dtype=torch.float64)
        for use in self._uses(role):
            stored = self._known.parameters[use.name].detach().cpu()
            values = element(use.name, (stored.abs() if stored.is_complex() else stored).double())
            total += self._by_unit(values.movedim(use.dim, 0).reshape(values.shape[use.dim], -1).sum(1), use)
        return total

    def _by_unit(self, values: Tensor, use: SiteUse) -> Tensor:
        """Sum the values at each position along a dimension by unit."""
        raise NotImplementedError

    def _uses(self, role: str) -> list[SiteUse]:
        return [use for use in self._sites if use.role == role and use.name in self._known.parameters]


class AxisSlices(Slices):
    """The parameters of one axis by role ("output", "input", "scale", "shift", "statistic"), and its readers.

    A criterion receives one and returns scores of `shape`.
    """

    def __init__(self, axis: PrunableAxis, known: KnownTensors, readers: Sequence[Consumer] = ()):
        super().__init__(axis.sites, known)
        self.axis = axis
        self._readers = readers

    @property
    def name(self) -> str:
        return self.axis.name

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(n,), or (outer units, n) for an axis whose units are chosen separately for each outer unit."""
        return shape_of(self.axis)

    def vectors(self, role: str) -> Tensor:
        """Return each unit's concatenated slices of all parameters of a role: (*shape, features), float64.

        Where a unit contains units (the dimensions of a head), these have no counterpart in other units, so they are
        sorted by norm, the largest first.
        """
        found = []
        for use in self._uses(role):
            rows = self._known.effective[use.name].detach().to("cpu", torch.float64).movedim(use.dim, 0)
            term = self._known.dims[use.name][use.dim]
            slices = rows.reshape(len(rows), -1)[positions_by_unit(term, self.axis.term)]
            if holds_inner_units(term, self.axis.term):
                order = torch.linalg.vector_norm(slices, dim=2).argsort(dim=1, descending=True)
                slices = slices.gather(1, order.unsqueeze(2).expand_as(slices))
            found.append(slices.reshape(*self.shape, -1))
        return torch.cat(found, -1)

    def order(self, scores: Tensor) -> Tensor:
        """Return the rank of each unit within its outer unit, 0 for the lowest score. Ties fall to the lower index."""
        return scores.argsort(dim=-1, stable=True).argsort(dim=-1)

    def normalised(self, scores: Tensor, norm: str) -> Tensor:
        """Return scores divided by the value of a norm in `NORMS`, or unchanged where that is zero."""
        by = NORMS[norm](scores)
        return scores / by if by > 0 else scores

    def gate(self, quantity: str) -> Tensor | None:
        """Return the mean over examples of a gate quantity of each unit ("gate_absolute", ...; see `importance.gates`).

        Returns:
            A tensor of `shape`, or None where no calibration example reached the axis.
        """
        statistics = self._known.statistics
        found = statistics.get(self.name, quantity) if statistics is not None else None
        return None if found is None or statistics is None else found / statistics.examples

    def read_sum(self, value: Callable[[InputMoments], Tensor]) -> Tensor | None:
        """Sum `value` over the readers of the axis, by unit.

        Args:
            value: From the input moments of a reader to one number for each channel that it reads.

        Returns:
            A tensor of `shape`, or None where no weight reads the axis (only products of activations do) or no
            calibration example reached a reader.
        """
        found = [per_unit(value(moments), reader.channels, self.axis.term) for reader, moments in self._recorded()]
        return torch.stack(found).sum(0) if found else None

    def read_mean(self, value: Callable[[InputMoments], Tensor]) -> Tensor | None:
        """Return the mean where `read_sum` has the sum: over a unit's channels in each reader, then over readers."""
        found = []
        for reader, moments in self._recorded():
            values = value(moments)
            by_unit = (per_unit(v, reader.channels, self.axis.term) for v in (values, torch.ones_like(values)))
            found.append(torch.div(*by_unit))
        return torch.stack(found).mean(0) if found else None

    def told(self, need: str) -> bool:
        """Return whether calibration recorded a need for this axis; if not, its weights are scored instead."""
        if need == "gates":
            return self.gate("gate_heard") is not None
        if need in _OF_PARAMETERS:
            return self.knows(_OF_PARAMETERS[need])
        if need == "gram":
            return bool(self._grams())
        return bool(self._recorded())

    def problems(self) -> list[Problem]:
        """Return the least-squares problem of each weight that reads the axis; needs "gram"."""
        found = []
        for reader, gram in self._grams():
            weight = self._known.effective[reader.weight].detach().to("cpu", torch.float64)
            channels = positions_by_unit(reader.channels, self.axis.term)
            matrix = matrix_of(weight, reader.dim, reader.groups)
            found.append(Problem.of(gram, matrix, channels, reader.channels.n))
        return found

    def _grams(self) -> list[tuple[Consumer, Tensor]]:
        statistics = self._known.statistics
        grams = [(r, statistics.get(r.weight, "gram")) for r in self._readers] if statistics is not None else []
        return [(reader, gram) for reader, gram in grams if gram is not None]

    def _recorded(self) -> list[tuple[Consumer, InputMoments]]:
        statistics, weights = self._known.statistics, self._known.effective
        if statistics is None:
            return []
        reached = [reader for reader in self._readers if statistics.get(reader.weight, "count") is not None]
        return [(reader, InputMoments(reader, weights[reader.weight], statistics)) for reader in reached]

    def _by_unit(self, values: Tensor, use: SiteUse) -> Tensor:
        return per_unit(values, self._known.dims[use.name][use.dim], self.axis.term)


@dataclass(frozen=True, slots=True)
class Problem:
    """The least-squares problem of a weight and its inputs. covariance: (f, f), of the features, over `rows` rows;
    weight: (f, o); places: (units, k), the features of each unit. Groups follow each other, each with its own features.
    """

    covariance: Tensor
    weight: Tensor
    places: Tensor
    rows: float

    @staticmethod
    def of(gram: Tensor, weight: Tensor, channels: Tensor, n: int) -> Problem:
        """gram: (groups, f + 1, f + 1), the constant last; weight: (groups, f, o); channels: (units, c), n in total."""
        count = gram[:, -1:, -1:].clamp_min(1.0)
        mean = gram[:, :-1, -1:] / count
        covariance = gram[:, :-1, :-1] / count - mean @ mean.transpose(1, 2)
        kernel = weight.shape[0] * weight.shape[1] // n
        places = (channels.unsqueeze(2) * kernel + torch.arange(kernel)).flatten(1)
        return Problem(torch.block_diag(*covariance), weight.flatten(0, 1), places, float(gram[0, -1, -1]))


def slices_of(graph: Graph, statistics: Statistics | None = None) -> list[AxisSlices]:
    """Return the slices of every prunable axis, in the order of the graph."""
    known = KnownTensors.of(graph, statistics)
    return [AxisSlices(axis, known, readers) for axis, readers in readers_by_axis(graph)]
