"""What a command is to cut, and the cut itself: to a target, or to the largest allowed drop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from secateur.cli.calibration import Calibration
from secateur.cli.command import CheckFailed
from secateur.cli.inspect import traced
from secateur.cli.measuring import MetricReader
from secateur.cli.options import CutOptions
from secateur.cli.origin import Loaded
from secateur.cli.plan import planned
from secateur.cli.progress import working
from secateur.cli.searching import DropOptions, searched
from secateur.cli.verify import told
from secateur.errors import PruningError

if TYPE_CHECKING:
    from torch import nn

    from secateur.pruning import Pruned


@dataclass(frozen=True)
class Request:
    """What to cut, with the data to evaluate and calibrate on."""

    cutting: CutOptions
    drop: DropOptions
    judge: MetricReader | None
    calibration: Calibration
    seed: int

    def pruned(self, dense: Loaded, *, verify: bool | None) -> Pruned:
        """Return the model cut once, and verified if that is cheap or asked for."""
        result = self._made(dense)
        return proved(dense, result, result.model) if verify else _proved_if_cheap(result, verify)

    def _made(self, dense: Loaded) -> Pruned:
        from secateur.apply import cut
        from secateur.files.pretrained import check_rebuilds
        from secateur.pruning import Pruned, recovered

        if self.drop.max_drop is not None:
            return searched(dense, self.cutting, self.drop, self.judge, self.calibration, self.seed)
        graph = traced(dense, uniform=self.cutting.uniform)
        statistics = self.calibration.read(graph, self.cutting.importance, self.seed)
        plan = planned(graph, self.cutting, statistics, self.seed)
        with working("cutting"):
            found = Pruned(cut(dense.model, plan).eval(), plan, graph)
            if self.cutting.uniform:
                check_rebuilds(found.model)
        with working("recovering"):
            return recovered(found, self.calibration.batches, self.calibration.recover, statistics, seed=self.seed)


def _proved_if_cheap(result: Pruned, verify: bool | None) -> Pruned:
    from secateur.pruning import proved as prove

    try:
        with working("verifying in float64"):
            return prove(result, verify=verify)
    except PruningError as error:
        raise CheckFailed(f"{error}\nnothing was written") from error


def proved(dense: Loaded, result: Pruned, small: nn.Module) -> Pruned:
    """Return the result with a proof that `small` is the cut by its plan. Raises `CheckFailed` if it is not."""
    from secateur.proof.verify import verify as prove

    with working("verifying in float64"):
        verification = prove(dense.model, small, result.plan, dense.inputs)
    if not verification.passed:
        raise CheckFailed(f"{told(verification)}\nnothing was written")
    return replace(result, verification=verification, unproved=None)
