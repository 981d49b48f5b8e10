"""The registry of criteria, by the name that `importance=` takes."""

from __future__ import annotations

from collections.abc import Callable

from secateur.base.table import Table
from secateur.errors import InputError, nearest
from secateur.importance.activations import MeanActivation, NonZero, Variance, Wanda
from secateur.importance.batch_norm import BatchNormScale
from secateur.importance.criterion import Criterion, Normalised
from secateur.importance.curvature import Hessian
from secateur.importance.fpgm import GeometricMedian
from secateur.importance.gates import Fisher, Taylor, TaylorBatch
from secateur.importance.gradients import OptimalBrainDamage, Snip, TaylorWeight
from secateur.importance.group_magnitude import GroupNorm
from secateur.importance.lamp import Lamp
from secateur.importance.magnitude import L1, L2, Lp
from secateur.importance.obs import OptimalBrainSurgeon
from secateur.importance.random import Random

CRITERIA: Table[str, Callable[[int], Criterion]] = Table(
    "criteria named",
    {
        "l1": lambda seed: L1(),
        "l2": lambda seed: L2(),
        "lp": lambda seed: Lp(),
        "group_l1": lambda seed: GroupNorm(1),
        "group_l2": lambda seed: GroupNorm(2),
        "bn_scale": lambda seed: BatchNormScale(),
        "lamp": lambda seed: Lamp(),
        "fpgm": lambda seed: GeometricMedian(),
        "taylor": lambda seed: Taylor(),
        "taylor_batch": lambda seed: TaylorBatch(),
        "taylor_weight": lambda seed: TaylorWeight(),
        "fisher": lambda seed: Fisher(),
        "obd": lambda seed: OptimalBrainDamage(),
        "hessian": lambda seed: Hessian(),
        "snip": lambda seed: Snip(),
        "apoz": lambda seed: NonZero(),
        "activation": lambda seed: MeanActivation(),
        "vbp": lambda seed: Variance(),
        "wanda": lambda seed: Wanda(),
        "obs": lambda seed: OptimalBrainSurgeon(),
        "random": Random,
    },
)


def named_criterion(importance: str | Criterion, seed: int) -> Criterion:
    """Return the criterion of a name.

    Args:
        importance: A name in `CRITERIA`, optionally with a normalisation as in "taylor/none". A callable is returned
            as it is.
        seed: Seed of the "random" criterion.

    Returns:
        The criterion, a function from `AxisSlices` to scores.

    Raises:
        InputError: The name is unknown.
    """
    if callable(importance):
        return importance
    name, slash, norm = importance.partition("/")
    if name not in CRITERIA:
        raise InputError(f"no importance is named {name!r}{nearest(name, CRITERIA)}\nknown: {', '.join(CRITERIA)}")
    criterion = CRITERIA[name](seed)
    return Normalised(criterion, norm) if slash else criterion
