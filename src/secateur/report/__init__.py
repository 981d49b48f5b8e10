"""What a cut brought: sizes, latency and scores of two models, side by side."""

from secateur.latency.timing import Timing, timings
from secateur.report.table import Measured, Report, Scores

__all__ = ["Measured", "Report", "Scores", "Timing", "timings"]
