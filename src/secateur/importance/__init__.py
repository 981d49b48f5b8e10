"""How much each unit matters. One criterion, one file; a criterion sees roles and slices, never layer types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import torch

from ..errors import InputError, PruningError, nearest
from ..graph import Graph, PrunableAxis
from ..slices import AxisSlices
from .batch_norm import BatchNormScale
from .depth import BlockSlices, score_blocks
from .magnitude import L1, L2
from .random import Random

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Criterion: TypeAlias = "Callable[[AxisSlices], torch.Tensor]"
Scores: TypeAlias = "Mapping[str, torch.Tensor]"

CRITERIA: dict[str, Callable[[int], Criterion]] = {
    "l1": lambda seed: L1(),
    "l2": lambda seed: L2(),
    "bn_scale": lambda seed: BatchNormScale(),
    "random": Random,
}


def score(graph: Graph, importance: str | Criterion | Scores = "l2", *, seed: int = 0) -> dict[str, torch.Tensor]:
    """One score per unit of each prunable axis, divided by the axis' mean so that axes can be compared.

    `importance`: a name in `CRITERIA`, a function from `AxisSlices` to scores of shape (n,), or ready scores by axis
    name. An axis chosen anew per outer unit is scored (outer, n). Raises `InputError` for an unknown name or a wrong
    shape and `PruningError` for scores that are not finite.

    >>> import secateur, torch
    >>> graph = secateur.trace(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)), torch.zeros(1, 4))
    >>> score(graph, "l1")["0"].shape
    torch.Size([8])
    """
    if is_ready(importance):
        given = by_own_names(graph, importance)
        return {axis.name: _checked(axis, given.get(axis.name, torch.ones(axis.size))) for axis in graph.axes}
    criterion = named_criterion(importance, seed)
    tensors = _effective(graph)
    dims = {name: site.dims for name, site in graph.sites.items()}
    slices = [AxisSlices(axis, tensors, dims) for axis in graph.axes]
    return {a.name: _normalised(_checked(a, criterion(s))) for a, s in zip(graph.axes, slices, strict=True)}


def _effective(graph: Graph) -> dict[str, torch.Tensor]:
    """Parameters by name; a weight that is divided by its norm and scaled by a gain as it works."""
    tensors: dict[str, torch.Tensor] = dict(graph.model.named_parameters())
    for renorm in graph.renorms:
        if renorm.of in tensors and renorm.name in tensors:
            weight = tensors[renorm.of].detach()
            norms = torch.linalg.vector_norm(
                weight, 2, [d for d in range(weight.dim()) if d != renorm.dim], keepdim=True
            )
            tensors[renorm.of] = weight * (tensors[renorm.name].detach() / norms)
    return tensors


def by_own_names(graph: Graph, scores: Scores) -> Scores:
    """Ready scores by the names of axes and blocks. Raises `InputError` for a name that is neither."""
    if not isinstance(scores, Mapping):
        known = ", ".join(CRITERIA)
        raise InputError(f"importance={scores!r}; give a name ({known}), a function, or scores by axis name")
    others = {*(b.name for b in graph.blocks), *(ghost.name for ghost in graph.ghosts), *graph.removed}
    return {name if name in others else graph.axis(name).name: value for name, value in scores.items()}


def is_ready(importance: str | Criterion | Scores) -> TypeIs[Scores]:
    """Whether these are scores, not what makes them."""
    return not callable(importance) and not isinstance(importance, str)


def named_criterion(importance: str | Criterion, seed: int) -> Criterion:
    if callable(importance):  # a user's own function
        return importance
    if importance not in CRITERIA:
        raise InputError(
            f"no importance is named {importance!r}{nearest(importance, CRITERIA)}\nknown: {', '.join(CRITERIA)}"
        )
    return CRITERIA[importance](seed)


def _checked(axis: PrunableAxis, scores: torch.Tensor) -> torch.Tensor:
    name = axis.name
    try:
        scores = torch.as_tensor(scores).detach().to("cpu", torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"the scores of {name!r} are no numbers: {error}; give one for each of {axis.size} units"
        ) from error
    shape = (axis.size,) if axis.outer is None else (axis.outer.n, axis.size)
    if tuple(scores.shape) not in (shape, shape[-1:]):
        raise InputError(f"the scores of {name!r} have shape {tuple(scores.shape)}; give one for each unit: {shape}")
    if not bool(torch.isfinite(scores).all()):
        raise PruningError(
            f"the scores of {name!r} are not finite: {scores[~torch.isfinite(scores)][:3].tolist()}\n"
            "look for NaN or infinite weights there; the model was left as it is"
        )
    return scores.expand(shape)


def _normalised(scores: torch.Tensor) -> torch.Tensor:
    mean = scores.mean()
    return scores / mean if mean > 0 else scores


__all__ = [
    "CRITERIA",
    "L1",
    "L2",
    "AxisSlices",
    "BatchNormScale",
    "BlockSlices",
    "Criterion",
    "Random",
    "Scores",
    "score",
    "score_blocks",
]
