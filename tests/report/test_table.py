from __future__ import annotations

import json
from dataclasses import replace

from secateur.report import MeasuredModel, MetricScores, Report, Timing

DENSE, PRUNED = (
    MeasuredModel(1000, 4000, 6_000_000, Timing(0.5, 0.4, 0.6)),
    MeasuredModel(400, 2000, 3_000_000, Timing(1.0, 0.9, 1.1)),
)


def test_a_slower_model_is_called_slower() -> None:
    assert "2.00x slower" in str(Report(DENSE, PRUNED, batch=1))


def test_equal_models_are_the_same() -> None:
    assert "0.50 ms  0.50 ms  the same" in str(Report(DENSE, replace(PRUNED, latency_ms=DENSE.latency_ms), batch=1))


def test_an_unsteady_latency_compares_nothing() -> None:
    report = Report(replace(DENSE, latency_ms=Timing(24.0, 0.5, 24.0)), PRUNED, batch=1)
    assert "unsteady (0.50 ms to 24.0 ms, 0.90 ms to 1.1 ms): the machine is busy" in str(report)
    assert report.as_dict()["steady"] is False


def test_scores_are_percent_points() -> None:
    text = str(Report(DENSE, PRUNED, 1, MetricScores("accuracy", 0.99, 0.5, 0.985)))
    assert "accuracy right after the cut  99.00 %  50.00 %  -49.00 points" in text
    assert "accuracy after fine-tuning    99.00 %  98.50 %  -0.50 points" in text


def test_other_metrics_are_plain_numbers() -> None:
    text = str(Report(DENSE, PRUNED, 1, MetricScores("error", 1.25, 2.5)))
    assert "error right after the cut     1.25      2.5  +1.25" in text
    assert "fine-tuning" not in text


def test_data_is_json() -> None:
    data = json.loads(json.dumps(Report(DENSE, PRUNED, 1).as_dict()))
    assert data["speedup"] == 0.5
    assert data["pruned"]["macs"] == 2000
