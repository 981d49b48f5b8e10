"""Compare a model before and after a cut: sizes, latency and metric, side by side.

This package may import `secateur.base`, `secateur.terms`, `secateur.errors` and `secateur.latency`. A new row of the
table is a field of `table.MeasuredModel` or `table.MetricScores` and a line in `table.Report`.
"""

from secateur.latency.timing import Timing, timings
from secateur.report.table import MeasuredModel, MetricScores, Report

__all__ = ["MeasuredModel", "MetricScores", "Report", "Timing", "timings"]
