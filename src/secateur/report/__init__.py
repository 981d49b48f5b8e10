"""What a cut brought: sizes, latency and scores of two models, side by side."""

from secateur.report.latency import medians
from secateur.report.table import Measured, Report, Scores

__all__ = ["Measured", "Report", "Scores", "medians"]
