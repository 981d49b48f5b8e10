"""Importance criteria: one score for each unit of every prunable axis.

A criterion reads the slices of parameters that belong to a unit, by their roles, and never the type of a layer. May
import `graph`, `statistics` and the rooms below them; not `trace` or `planning`. To extend it, add a file with one
criterion class and a row in `CRITERIA` (`registry.py`), a function from a seed to the criterion, or pass any callable
as `importance=`.
"""

from secateur.importance.activations import MeanActivation, NonZero, Variance, Wanda
from secateur.importance.batch_norm import BatchNormScale
from secateur.importance.compose import combine
from secateur.importance.criterion import Criterion, Normalised, needs_of, norm_of
from secateur.importance.curvature import Hessian
from secateur.importance.depth import BlockSlices, score_blocks
from secateur.importance.fpgm import GeometricMedian
from secateur.importance.gates import Fisher, Taylor, TaylorBatch
from secateur.importance.gradients import OptimalBrainDamage, Snip, TaylorWeight
from secateur.importance.group_magnitude import GroupNorm
from secateur.importance.lamp import Lamp
from secateur.importance.magnitude import L1, L2, Lp
from secateur.importance.obs import OptimalBrainSurgeon
from secateur.importance.random import Random
from secateur.importance.registry import CRITERIA, named_criterion
from secateur.importance.scoring import (
    Scores,
    by_own_names,
    by_weights,
    check_needs,
    is_ready,
    is_relative,
    needs_of_importance,
    score,
)
from secateur.importance.slices import NORMS, AxisSlices

__all__ = [
    "CRITERIA",
    "L1",
    "L2",
    "NORMS",
    "AxisSlices",
    "BatchNormScale",
    "BlockSlices",
    "Criterion",
    "Fisher",
    "GeometricMedian",
    "GroupNorm",
    "Hessian",
    "Lamp",
    "Lp",
    "MeanActivation",
    "NonZero",
    "Normalised",
    "OptimalBrainDamage",
    "OptimalBrainSurgeon",
    "Random",
    "Scores",
    "Snip",
    "Taylor",
    "TaylorBatch",
    "TaylorWeight",
    "Variance",
    "Wanda",
    "by_own_names",
    "by_weights",
    "check_needs",
    "combine",
    "is_ready",
    "is_relative",
    "named_criterion",
    "needs_of",
    "needs_of_importance",
    "norm_of",
    "score",
    "score_blocks",
]
