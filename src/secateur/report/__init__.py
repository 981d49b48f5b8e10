"""What a cut brought: sizes, latency and scores of two models, side by side."""

from secateur.latency.timing import Timing, timings
from secateur.report.table import MeasuredModel, MetricScores, Report

__all__ = ["MeasuredModel", "MetricScores", "Report", "Timing", "timings"]
