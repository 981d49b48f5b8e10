"""The result of `verify`: the errors of both laws, the precision in which they were checked, and how it prints."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from secateur.anatomy.slots import slots
from secateur.errors import PruningError


class NothingToCompare(PruningError):
    """The original has no outputs on these inputs that a pruned model could be compared with."""


TOLERANCE = 1e-9
VISIBLE = 1e-6
NOTHING_REMOVED = "nothing was removed, so there is nothing to prove"
BLIND = (
    "give trained weights: the last layer may be zero, as in a new model, or activations may vanish on the way, "
    "as behind a layer whose weights are all masked"
)


@dataclass(frozen=True)
class Precision:
    """The precision in which the laws were checked, and how far equal outputs may differ there.

    A model that cannot run in float64 runs in its own precision. Sums in another order lose about half of its digits,
    so the tolerance is the square root of its rounding error.
    """

    name: str = "float64"
    tolerance: float = TOLERANCE
    visible: float = VISIBLE

    @staticmethod
    def of(model: nn.Module) -> Precision:
        """Return the coarsest precision of a model's tensors."""
        kinds = {slot.tensor.dtype for slot in slots(model) if slot.tensor.is_floating_point()} or {torch.float32}
        coarsest = max(kinds, key=lambda dtype: torch.finfo(dtype).eps)
        tolerance = torch.finfo(coarsest).eps ** 0.5
        return Precision(str(coarsest).removeprefix("torch."), tolerance, 10 * tolerance)


@dataclass(frozen=True)
class Verification:
    """The relative errors of both laws (largest difference over largest value), and whether the laws hold.

    Attributes:
        silence: the error of the first law: the pruned model against the original with its dropped units silenced.
        permutation: the error of the second law: the original against itself with its units reordered.
        visible: how much silencing the dropped units changes the outputs.
        recovered: the recovery steps that changed weights after the cut. Both laws are then checked on the cut alone.
        structure: how a recovered model differs from the cut in more than weights; None if it does not.
        others: where `visible` is zero, how much silencing the units that stay changes the outputs. If that were zero
            too, the first law would prove nothing.
        precision: the precision in which the models ran, and the errors allowed there.
        untested: why the laws could not be checked; None if they were.
    """

    silence: float
    permutation: float
    visible: float
    recovered: tuple[str, ...] = ()
    structure: str | None = None
    others: float | None = None
    precision: Precision = field(default_factory=Precision)
    untested: str | None = None

    @staticmethod
    def not_tested(why: str) -> Verification:
        """Return the result for laws that could not be checked."""
        return Verification(float("nan"), float("nan"), float("nan"), untested=why)

    @property
    def dead(self) -> bool:
        """Whether the dropped units change nothing on these inputs, and those that stay do."""
        seen = self.others is not None and self.others > self.precision.visible
        return self.visible < self.precision.tolerance and seen

    @property
    def lawful(self) -> bool:
        """Whether both laws hold. They may hold only because no error could be seen; see `conclusive`."""
        return self.untested is None and max(self.silence, self.permutation) < self.precision.tolerance

    @property
    def conclusive(self) -> bool:
        """Whether an error would have been seen."""
        return self.untested is None and (self.visible > self.precision.visible or self.dead)

    @property
    def passed(self) -> bool:
        """Whether both laws hold, an error would have been seen, and a recovered model is built like the cut."""
        return self.lawful and self.conclusive and self.structure is None

    @property
    def wrong(self) -> bool:
        """Whether a law is broken, or a recovered model is not built like the cut."""
        return self.untested is None and (self.structure is not None or not self.lawful)

    @property
    def open(self) -> str | None:
        """Why nothing is proved, if nothing is wrong either; None otherwise."""
        if self.untested is not None or self.wrong or self.conclusive:
            return self.untested
        return self._unseen

    @property
    def _unseen(self) -> str:
        return (
            f"silencing the dropped units changes the outputs by only {self.visible:.1e}, where more than "
            f"{self.precision.visible:.0e} is needed to see them; {BLIND}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and `passed` as plain data for JSON."""
        return {**asdict(self), "passed": self.passed}

    def __str__(self) -> str:
        lines = [self._laws()]
        if self.recovered:
            lines.append(f"weights were recovered by {', '.join(self.recovered)}; the cut before it was checked")
        if self.structure is not None:
            lines.append(f"FAILED: the recovered model is not built like the cut: {self.structure}")
        return "\n".join(lines)

    def _laws(self) -> str:
        if self.untested is not None or (self.lawful and not self.conclusive):
            return f"not proved: {self.untested or self._unseen}"
        dead = ""
        if self.dead:
            dead = f", so they are dead: silencing the units that stay of their axes changes them by {self.others:.1e}"
        coarse = "" if self.precision == Precision() else f" in {self.precision.name}, because float64 does not run"
        together = "with the units of all axes permuted"
        apart = f"permuted equals original to {self.permutation:.1e}"
        return (
            f"{'proved' if self.lawful else 'FAILED'}: pruned equals silenced to {self.silence:.1e}, "
            f"{together if self.silence == self.permutation else apart} (allowed {self.precision.tolerance:.0e}"
            f"{coarse}); silencing changes the outputs by {self.visible:.1e}{dead}"
        )


__all__ = ["NOTHING_REMOVED", "TOLERANCE", "NothingToCompare", "Precision", "Verification"]
