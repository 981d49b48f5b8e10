"""Sparsity training: penalties that push whole units towards zero before they are cut.

A penalty can be used as a loss term or as a gradient:

    loss = criterion(model(x), y) + penalty()          # autograd differentiates it
    handle = penalty.attach(optimizer)                 # or: every optimizer.step() adds its gradient first

The second does not change the loss, so it works with any trainer, and it acts after gradients are clipped. Penalties
act on parameters of prunable axes only: the gradients of frozen, protected and unselected parameters do not change.

This package may import `secateur.planning.selection` and `secateur.graph`. A new penalty is a subclass of `Penalty`; a
row in `PENALTIES` makes it available as `--penalty`.
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
"""Penalties by the names that `--penalty` takes; each is called with (graph, strength, select=None)."""

__all__ = ["PENALTIES", "GroupLasso", "GrowingL2", "Penalty", "ScaleHistory", "ScaleL1", "total"]
