"""Statistics of a model on calibration data: one pass collects what the criteria and the recovery steps need.

This package may import `trace`, `apply`, `graph` and everything below them. To add a statistic, write a `Collector` in
`collectors.py` and name it in `NEEDS`.
"""

from secateur.statistics.calibration import calibrate
from secateur.statistics.sums import NEED_LOSS, NEEDS, Loss, Statistics

__all__ = ["NEEDS", "NEED_LOSS", "Loss", "Statistics", "calibrate"]
