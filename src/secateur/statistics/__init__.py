"""What calibration data tell of a model: one pass feeds every criterion and every recovery step of dense moments.

May import the Graph and what is below it, the tracing modes of `trace` and the tensors of `apply`. A new statistic is a
`Collector` in `collectors.py`.
"""

from secateur.statistics.calibration import calibrate
from secateur.statistics.sums import NEED_LOSS, NEEDS, Loss, Statistics

__all__ = ["NEEDS", "NEED_LOSS", "Loss", "Statistics", "calibrate"]
