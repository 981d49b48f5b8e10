"""The verdict on each stage of a loop: the user's metric, and whether it dropped too far from the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from torch import nn

from secateur.base.text import columns, numeral, share
from secateur.errors import InputError
from secateur.plan.parts import Totals
from secateur.probing.metric import Metric, check_metric, judged, number

ROUNDING = 1e-9  # in floats, 0.90 - 0.88 is more than 0.02


class JudgeOptions(TypedDict, total=False):
    """The keyword options with which loops judge their stages; `StageJudge` has the defaults."""

    metric: Metric | None
    max_drop: float | None
    higher_is_better: bool
    dense: float | None


@dataclass(frozen=True, slots=True)
class StageJudge:
    """A metric, and by how much it may drop. dense: its value on the original model, if that is known."""

    metric: Metric | None = None
    max_drop: float | None = None
    higher_is_better: bool = True
    dense: float | None = None

    def check(self) -> StageJudge:
        """Raise `InputError` for an invalid metric or limit, or a limit without a metric; return the judge itself."""
        if self.metric is not None:
            check_metric(self.metric)
        for word, value in (("max_drop", self.max_drop), ("dense", self.dense)):
            _check_number(word, value, self.metric)
        if self.max_drop is not None and self.max_drop < 0:
            raise InputError(f"max_drop={self.max_drop:g}; it is by how much the metric may get worse: 0 or above")
        return self

    @property
    def may_stop(self) -> bool:
        """Whether a stage can be rejected."""
        return self.max_drop is not None

    def value(self, model: nn.Module, what: str) -> float | None:
        """Return the metric of a model, if there is a metric. Raises `InputError` if it is not a finite number."""
        return None if self.metric is None else judged(self.metric, model, what)

    def drop(self, before: float | None, after: float | None) -> float | None:
        """Return by how much the metric got worse."""
        if before is None or after is None:
            return None
        return before - after if self.higher_is_better else after - before

    def allows(self, drop: float | None) -> bool:
        """Return whether a drop is within the limit."""
        return drop is None or self.max_drop is None or drop <= self.max_drop + ROUNDING

    def settle(self, record: Record, first: Record, model: nn.Module) -> bool:
        """Measure a stage after its training, record the result, and return whether it is good enough."""
        record.metric = self.value(model, f"stage {record.number}")
        record.drop = self.drop(first.metric, record.metric)
        record.good = self.allows(record.drop)
        return record.good


def _check_number(word: str, value: Any, metric: Metric | None) -> None:
    if value is None:
        return
    if metric is None:
        raise InputError(f"{word}={value!r} without a metric\ngive metric=, a function (model) -> number")
    try:
        number(value)
    except ValueError as error:
        raise InputError(f"{word}={value!r}: {error}") from error


@dataclass(slots=True)
class Record:
    """A stage in numbers. Number 0 is the model that a loop begins with.

    Attributes:
        number: The number of the stage.
        target: The targets that it meets, as shares of the original model.
        totals: Parameters, MACs and other costs of its model.
        metric: The metric after training. None: not measured.
        drop: By how much the metric is worse than that of stage 0.
        good: Whether that is within the limit.
    """

    number: int
    target: tuple[str, ...]
    totals: Totals
    metric: float | None = None
    drop: float | None = None
    good: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "stage": self.number,
            "target": list(self.target),
            **self.totals.as_dict(),
            "metric": self.metric,
            "drop": self.drop,
            "good": self.good,
        }

    def row(self, first: Totals, *, judged: bool) -> tuple[str, ...]:
        """Return its row of the table."""
        own = self.totals
        cells = [cell for kind in _shown(first) for cell in _size(own[kind], first[kind] if self.number else None)]
        values = ["" if value is None else f"{value:.4g}" for value in (self.metric, self.drop)]
        verdict = "" if self.good else "too much"
        name = str(self.number) if self.number else "start"
        return (name, ", ".join(self.target), *cells, *((*values, verdict) if judged else ()))


def _shown(totals: Totals) -> dict[str, str]:
    """Return the costs that have columns, with the headings."""
    return {"params": "params", "macs": "MACs", **{kind: kind for kind in totals.more}}


def _size(now: float | None, first: float | None) -> tuple[str, str]:
    if now is None:
        return "", ""
    return numeral(now), share(now / first) if first else ""


def table(records: Sequence[Record], *, judged: bool) -> list[str]:
    """Return the lines of the table of a loop, beginning with the original model."""
    kinds = [cell for heading in _shown(records[0].totals).values() for cell in (heading, "")]
    head = ("stage", "target", *kinds, *(("metric", "drop", "") if judged else ()))
    rows = [record.row(records[0].totals, judged=judged) for record in records]
    return columns([head, *rows], right=range(2, 4 + len(kinds)))


__all__ = ["JudgeOptions", "Record", "StageJudge", "table"]
