"""Recovery without training: what calibration data alone can give back after a cut.

norms: running statistics of batch norms, taken anew. shift: the mean of what removed units gave goes into the biases
of what read them. lsq: least squares for every weight, layer by layer, on what the cut model gives it. lsq_moments:
the same in one pass, from what the dense model gives it.
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
