from __future__ import annotations

import json

from secateur.report import Measured, Report, Scores

DENSE, PRUNED = Measured(1000, 4000, 6_000_000, 0.5), Measured(400, 2000, 3_000_000, 1.0)


def test_a_slower_model_is_called_slower() -> None:
    assert "2.00x slower" in str(Report(DENSE, PRUNED, batch=1))


def test_scores_are_percent_points() -> None:
    text = str(Report(DENSE, PRUNED, 1, Scores("accuracy", 0.99, 0.5, 0.985)))
    assert "accuracy right after the cut  99.00 %  50.00 %  -49.00 points" in text
    assert "accuracy after fine-tuning    99.00 %  98.50 %  -0.50 points" in text


def test_other_metrics_are_plain_numbers() -> None:
    text = str(Report(DENSE, PRUNED, 1, Scores("error", 1.25, 2.5)))
    assert "error right after the cut     1.25     2.5  +1.25" in text
    assert "fine-tuning" not in text


def test_data_is_json() -> None:
    data = json.loads(json.dumps(Report(DENSE, PRUNED, 1).as_dict()))
    assert data["speedup"] == 0.5
    assert data["pruned"]["macs"] == 2000
