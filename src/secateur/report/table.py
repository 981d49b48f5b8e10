"""The table that `secateur prune` prints at its end, and the same numbers as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from secateur.base.text import columns, share
from secateur.latency.timing import Timing


@dataclass(frozen=True, slots=True)
class MeasuredModel:
    """The measurements of one model.

    Attributes:
        params: The number of parameters.
        macs: The MACs of one call.
        bytes: The size of its safetensors file, in bytes.
        latency_ms: The duration of one call, in milliseconds.
    """

    params: int
    macs: int
    bytes: int
    latency_ms: Timing


@dataclass(frozen=True, slots=True)
class MetricScores:
    """The mean of a metric over the test data, before and after the cut.

    Attributes:
        metric: The name of the metric.
        before: Its value before the cut.
        after_cut: Its value right after the cut. None: the cut was made in stages.
        after_finetuning: Its value after fine-tuning. None: the model was not fine-tuned.

    Example:
        >>> MetricScores("accuracy", 0.99, 0.5, 0.98).show(0.98)
        '98.00 %'
    """

    metric: str
    before: float
    after_cut: float | None = None
    after_finetuning: float | None = None

    def show(self, value: float) -> str:
        """Format a value of the metric: accuracy in percent, other metrics as they are."""
        return f"{100 * value:.2f} %" if self.metric == "accuracy" else f"{value:.4g}"

    def change(self, value: float) -> str:
        """Format the difference of a value from the value before the cut."""
        if self.metric == "accuracy":
            return f"{100 * (value - self.before):+.2f} points"
        return f"{value - self.before:+.4g}"


@dataclass(frozen=True, slots=True)
class Report:
    """Two models side by side; `print` shows the table.

    Attributes:
        dense: The model before the cut.
        pruned: The model after it.
        batch: The batch size at which MACs and latency were measured.
        scores: The metric before and after. None: it was not measured.

    Example:
        >>> before = MeasuredModel(100, 400, 600, Timing(2.0, 1.9, 2.1))
        >>> after = MeasuredModel(50, 100, 400, Timing(1.0, 0.9, 1.1))
        >>> print(Report(before, after, batch=1))
                          before     after
        parameters           100        50  50.0 %
        MACs                 400       100  25.0 %
        file size          600 B     400 B  66.7 %
        latency, batch 1  2.0 ms    1.0 ms  2.00x faster
    """

    dense: MeasuredModel
    pruned: MeasuredModel
    batch: int
    scores: MetricScores | None = None

    @property
    def speedup(self) -> float:
        """The median latency of the dense model divided by that of the pruned model."""
        return self.dense.latency_ms.median / self.pruned.latency_ms.median

    @property
    def steady(self) -> bool:
        """Whether both latencies are steady, so that they can be compared."""
        return self.dense.latency_ms.steady and self.pruned.latency_ms.steady

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, without the scores."""
        return {
            "dense": asdict(self.dense),
            "pruned": asdict(self.pruned),
            "batch": self.batch,
            "speedup": self.speedup,
            "steady": self.steady,
        }

    def __str__(self) -> str:
        return "\n".join(columns([("", "before", "after", ""), *self._sizes(), *self._scores()], right=(1, 2)))

    def _sizes(self) -> list[tuple[str, str, str, str]]:
        old, new = self.dense, self.pruned
        return [
            ("parameters", f"{old.params:,}", f"{new.params:,}", _remains(old.params, new.params)),
            ("MACs", f"{old.macs:,}", f"{new.macs:,}", _remains(old.macs, new.macs)),
            ("file size", _size(old.bytes), _size(new.bytes), _remains(old.bytes, new.bytes)),
            (
                f"latency, batch {self.batch}",
                _time(old.latency_ms.median),
                _time(new.latency_ms.median),
                self._faster(),
            ),
        ]

    def _faster(self) -> str:
        if not self.steady:
            spread = [f"{_time(t.fastest)} to {_time(t.slow)}" for t in (self.dense.latency_ms, self.pruned.latency_ms)]
            return f"unsteady ({spread[0]}, {spread[1]}): the machine is busy, try fewer threads"
        if 0.995 < self.speedup < 1.005:
            return "the same"
        return f"{self.speedup:.2f}x faster" if self.speedup > 1 else f"{1 / self.speedup:.2f}x slower"

    def _scores(self) -> list[tuple[str, str, str, str]]:
        scores = self.scores
        if scores is None:
            return []
        stages = {"right after the cut": scores.after_cut, "after fine-tuning": scores.after_finetuning}
        before = scores.show(scores.before)
        return [
            (f"{scores.metric} {stage}", before, scores.show(value), scores.change(value))
            for stage, value in stages.items()
            if value is not None
        ]


def _remains(old: int, new: int) -> str:
    return share(new / old) if old else ""


def _size(count: float) -> str:
    """Format a number of bytes in decimal units.

    >>> _size(1_234_567), _size(13_000_000), _size(600)
    ('1.23 MB', '13.0 MB', '600 B')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            digits = 0 if unit == "B" or count >= 100 else 1 if count >= 10 else 2
            return f"{count:.{digits}f} {unit}"
        count /= 1000
    raise AssertionError


def _time(milliseconds: float) -> str:
    """Format milliseconds with about two significant digits."""
    return f"{milliseconds:.2f} ms" if milliseconds < 1 else f"{milliseconds:.1f} ms"
