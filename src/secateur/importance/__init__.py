"""How much each unit matters. One criterion, one file; a criterion sees roles and slices, never layer types."""

from ..slices import NORMS, AxisSlices
from .activations import MeanActivation, NonZero, Variance, Wanda
from .batch_norm import BatchNormScale
from .compose import combine
from .criterion import Criterion, Normalised, needs_of, norm_of
from .curvature import Hessian
from .depth import BlockSlices, score_blocks
from .fpgm import GeometricMedian
from .gates import Fisher, Taylor, TaylorBatch
from .gradients import OptimalBrainDamage, Snip, TaylorWeight
from .group_magnitude import GroupNorm
from .lamp import Lamp
from .magnitude import L1, L2, Lp
from .random import Random
from .registry import CRITERIA, named_criterion
from .scoring import Scores, by_own_names, by_weights, check_needs, is_ready, is_relative, needs_of_importance, score

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
