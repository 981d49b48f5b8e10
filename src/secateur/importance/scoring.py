"""Scores of units: one per unit of each prunable axis, from a criterion or ready scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import torch

from secateur.errors import InputError, PruningError
from secateur.graph.graph import Graph
from secateur.graph.parts import PrunableAxis
from secateur.graph.units import shape_of
from secateur.importance.criterion import Criterion, needs_of, norm_of
from secateur.importance.registry import CRITERIA, named_criterion
from secateur.importance.slices import slices_of
from secateur.statistics.sums import Statistics

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Scores: TypeAlias = "Mapping[str, torch.Tensor]"


def score(
    graph: Graph,
    importance: str | Criterion | Scores = "l2",
    *,
    statistics: Statistics | None = None,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """Score the units of each prunable axis.

    Args:
        graph: The Graph that `secateur.trace` returns.
        importance: A name in `CRITERIA`, optionally with a normalisation ("taylor/none"); a function from `AxisSlices`
            to scores; or ready scores by axis name.
        statistics: What `secateur.statistics.calibrate` collected, for a criterion that needs it.
        seed: Seed of the "random" criterion.

    Returns:
        Scores by axis name, float64 on the CPU. An axis of n units has shape (n,), or (outer units, n) where its units
        are chosen separately for each outer unit. Scores of a criterion are divided by its `norm` (by default their
        mean on the axis); ready scores are not.

    Raises:
        InputError: A name is unknown, a shape is wrong, or the statistics lack what the criterion needs.
        PruningError: A score is not finite.

    Example:
        >>> import secateur
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        >>> score(secateur.trace(net, torch.zeros(1, 4)), "l1")["0"].shape
        torch.Size([8])
    """
    if is_ready(importance):
        given = by_own_names(graph, importance)
        return {axis.name: _checked(axis, given.get(axis.name, torch.ones(axis.size))) for axis in graph.axes}
    criterion = named_criterion(importance, seed)
    check_needs(criterion, statistics)
    norm = norm_of(criterion)
    try:
        return {s.name: s.normalised(_checked(s.axis, criterion(s)), norm) for s in slices_of(graph, statistics)}
    except NotImplementedError as error:
        if not any(parameter.is_meta for parameter in graph.model.parameters()):
            raise
        raise InputError(
            "the model is on the meta device, so its weights have no values to score\n"
            "load weights first: model.to_empty(device='cpu'), then model.load_state_dict(...)"
        ) from error


def needs_of_importance(importance: str | Criterion | Scores) -> frozenset[str]:
    """Return the names of the statistics that an importance needs. Raises `InputError` for an unknown name."""
    return frozenset() if is_ready(importance) else needs_of(named_criterion(importance, 0))


def check_needs(criterion: Criterion, statistics: Statistics | None) -> None:
    """Raise `InputError` if the statistics lack what a criterion needs."""
    have = frozenset() if statistics is None else statistics.needs
    lacking = needs_of(criterion) - have
    if lacking:
        listed = ", ".join(repr(need) for need in sorted(needs_of(criterion)))
        what = "needs statistics" if statistics is None else f"needs {', '.join(map(repr, sorted(lacking)))} too"
        raise InputError(
            f"this importance {what}\ngive statistics=secateur.statistics.calibrate(graph, batches, needs=[{listed}], "
            "loss=...), or data= to prune"
        )


def by_own_names(graph: Graph, scores: Scores) -> Scores:
    """Return ready scores by the names of axes and blocks. Raises `InputError` for a name that is neither."""
    if not isinstance(scores, Mapping):
        known = ", ".join(CRITERIA)
        raise InputError(
            f"importance={scores!r} is not an importance\ngive a name ({known}), a function, or scores by axis name"
        )
    others = {*(b.name for b in graph.blocks), *(ghost.name for ghost in graph.reduced.ghosts), *graph.reduced.removed}
    return {name if name in others else graph.axis(name).name: value for name, value in scores.items()}


def is_ready(importance: str | Criterion | Scores) -> TypeIs[Scores]:
    """Return whether an importance consists of ready scores."""
    return not callable(importance) and not isinstance(importance, str)


def is_relative(importance: str | Criterion | Scores) -> bool:
    """Return whether scores have a mean of one on every axis, and so do not compare one axis with another."""
    return not is_ready(importance) and norm_of(named_criterion(importance, 0)) == "mean"


def by_weights(graph: Graph, importance: str | Criterion | Scores, statistics: Statistics | None) -> list[str]:
    """Return the axes that were scored by their weights because calibration recorded nothing of their units."""
    needs = needs_of_importance(importance)
    return [s.name for s in slices_of(graph, statistics) if not all(map(s.told, needs))]


def _checked(axis: PrunableAxis, scores: torch.Tensor) -> torch.Tensor:
    name = axis.name
    try:
        scores = torch.as_tensor(scores).detach().to("cpu", torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"the scores of {name!r} are not numbers: {error}\ngive one for each of {axis.size} units"
        ) from error
    shape = shape_of(axis)
    if tuple(scores.shape) not in (shape, shape[-1:]):
        raise InputError(f"the scores of {name!r} have shape {tuple(scores.shape)}\ngive one for each unit: {shape}")
    if not bool(torch.isfinite(scores).all()):
        raise PruningError(
            f"the scores of {name!r} are not finite: {scores[~torch.isfinite(scores)][:3].tolist()}\n"
            "look for NaN or infinite weights there; the model was left as it is"
        )
    return scores.expand(shape)
