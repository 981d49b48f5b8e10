"""Sparsity training: penalties that push whole units towards zero before they are cut.

A penalty is a loss term and a gradient at once; use whichever suits the loop:

    loss = criterion(model(x), y) + penalty()          # autograd differentiates it
    handle = penalty.attach(optimizer)                 # or: every optimizer.step() adds its gradient first

The second leaves the loss alone, so it works with any trainer, and acts after gradients were clipped. Penalties reach
parameters on prunable axes only: what is frozen, protected or not selected keeps its gradient bit by bit.
"""

from collections.abc import Callable

from secateur.base.table import Table
from secateur.train.penalties.groups import GroupLasso
from secateur.train.penalties.growing import GrowingL2
from secateur.train.penalties.history import ScaleHistory
from secateur.train.penalties.penalty import Penalty, total
from secateur.train.penalties.scales import ScaleL1

PENALTIES: Table[str, Callable[..., Penalty]] = Table(
    "penalties named", {"scale_l1": ScaleL1, "group_lasso": GroupLasso}
)
"""Penalties by the names that `--penalty` takes, made of (graph, strength, select=None)."""

__all__ = ["PENALTIES", "GroupLasso", "GrowingL2", "Penalty", "ScaleHistory", "ScaleL1", "total"]
