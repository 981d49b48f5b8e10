"""Recovery without training: steps that repair a cut model with unlabelled calibration data alone.

"norms" re-estimates the running statistics of batch norms. "shift" adds the mean output of removed units to biases.
"lsq" solves a least-squares problem for every weight, layer by layer, on the activations of the cut model;
"lsq_moments" solves them in one pass on those of the dense model. May import `graph`, `apply`, `statistics`, `trace`
and the rooms below them; not `importance` or `planning`. To extend it, write a frozen dataclass that satisfies `Step`
and register it in `STEPS`, or pass an instance as `recover=`.
"""

from secateur.recover.steps import (
    STEPS,
    LeastSquares,
    MeanShift,
    MomentLeastSquares,
    Norms,
    Recover,
    Recovering,
    Step,
    named_steps,
    needs_of,
    recover_,
)

__all__ = [
    "STEPS",
    "LeastSquares",
    "MeanShift",
    "MomentLeastSquares",
    "Norms",
    "Recover",
    "Recovering",
    "Step",
    "named_steps",
    "needs_of",
    "recover_",
]
