"""Measured sensitivity: how much a metric worsens when one group of tied axes is cut and all others stay whole.

Curves are converted to prices by three rules of our own. r is the share that remains and h(r) the harm: the measured
value minus the dense one, or the reverse where higher is better.

1. h(1) = 0. A deeper cut with less harm is an upper bound for shallower ones: h(r) = min over r' <= r, at least 0.
2. h is linear between the ratios, and is extrapolated linearly below the lowest one.
3. The slope never decreases as the cut deepens. A deeper cut does little further harm to a group that one cut has
   already broken, and this must not make that group look cheap to cut.

Groups without measured harm would otherwise be cut in the order of the model. Harm is not known more precisely than
`BLUR` times the greatest measured harm, so this amount is spread evenly over the units of each group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from secateur.base.paths import PathLike
from secateur.base.text import columns, listed
from secateur.errors import FileError, InputError
from secateur.graph.graph import Graph
from secateur.graph.parts import Group
from secateur.probing.journal import Journal, key_of
from secateur.probing.plot import plot
from secateur.probing.points import Curve, Point

KIND = "sensitivity"
DENSE = "dense"
BLUR = 1e-3


@dataclass(frozen=True)
class Sensitivity:
    """The result of `sensitivity`: the metric for each group of tied axes and each ratio.

    Printing shows a table, the most sensitive groups first; `secateur.plan(allocation=)` uses it to distribute a cut.
    `dense` is the metric of the dense model, `curves` has one entry per group, and `stays` has the reason for each
    group that cannot be measured at any ratio.
    """

    dense: float
    curves: tuple[Curve, ...]
    higher_is_better: bool
    ratios: tuple[float, ...]
    stays: Mapping[str, str]
    fingerprint: Mapping[str, str]

    def harm(self, value: float) -> float:
        """Return how much worse a value is than that of the dense model; negative where it is better."""
        return self.dense - value if self.higher_is_better else value - self.dense

    def curve(self, axis: str) -> Curve:
        """Return the curve of the group that contains an axis.

        Args:
            axis: The name of the axis.

        Raises:
            InputError: Nothing was measured for the axis.
        """
        for curve in self.curves:
            if axis in curve.units:
                return curve
        raise InputError(f"nothing was measured for {axis!r}; measured: {listed((c.name for c in self.curves), 8)}")

    def check(self, graph: Graph, groups: Sequence[Group]) -> None:
        """Raise `InputError` for groups that were not measured, or that have a different number of units here."""
        measured = {name: units for curve in self.curves if curve.points for name, units in curve.units.items()}
        missing = [g.axes[0].name for g in groups if g.axes[0].name not in {**measured, **self.stays}]
        if missing:
            raise InputError(
                f"the allocation has no measurement of {listed(missing, 8)}\n"
                "measure again with secateur.sensitivity(graph, ...), which continues where it stopped, or protect them"
            )
        for axis in (axis for group in groups for axis in group.axes):
            if measured.get(axis.name, axis.size) != axis.size:
                raise InputError(
                    f"the allocation was measured on another model: {axis.name!r} had {measured[axis.name]} units, "
                    f"here it has {axis.size}\nmeasure this one: secateur.sensitivity(graph, ...)"
                )

    def prices(self, group: Group, levels: Sequence[int]) -> tuple[float, ...]:
        """Return the harm per step between consecutive levels of a group, never decreasing.

        Args:
            group: A group of the graph that was measured.
            levels: The numbers of steps to keep, descending.
        """
        gone = 1 - np.asarray(levels) / group.steps
        at, harm = _convex(self.curve(group.axes[0].name), self)
        lost = np.interp(gone, at, harm) + BLUR * self._greatest * gone**2 / 2
        lost += np.maximum(gone - at[-1], 0) * (harm[-1] - harm[-2]) / (at[-1] - at[-2])
        slopes = np.diff(lost) / np.diff(gone) / group.steps
        return tuple(np.maximum.accumulate(slopes).tolist())

    @property
    def _greatest(self) -> float:
        harms = [self.harm(point.value) for curve in self.curves for point in curve.points]
        return max([*harms, 0.0]) or 1.0

    def to_json(self) -> str:
        """Return the content of a file of `sensitivity(path=)`; `from_json` is its inverse."""
        values = {key_of(c.name, p.kept): p.value for c in self.curves for p in c.points}
        about = {"ratios": list(self.ratios), "higher_is_better": self.higher_is_better, "stays": dict(self.stays)}
        curves = [
            {"units": dict(c.units), "steps": c.steps, "kept": {str(p.ratio): p.kept for p in c.points}}
            for c in self.curves
        ]
        return Journal(KIND, self.fingerprint, {DENSE: self.dense, **values}, {**about, "curves": curves}).to_json()

    @staticmethod
    def from_json(text: str) -> Sensitivity:
        """Read the content of such a file, complete or not. Raises `FileError` for anything else."""
        return from_journal(Journal.from_json(text, KIND))

    @staticmethod
    def read(path: PathLike) -> Sensitivity:
        """Read the file that `sensitivity(path=)` wrote. Raises `FileError` if it is missing or damaged."""
        return from_journal(Journal.read(path, KIND))

    def plot(self, path: PathLike) -> None:
        """Write an HTML page with one curve per group. Needs plotly: `pip install 'secateur[plot]'`.

        Args:
            path: The .html file to write.

        Raises:
            InputError: The path has another suffix, or plotly is not installed.
        """
        plot(path, self.ranked(), self.dense, "higher" if self.higher_is_better else "lower")

    def __str__(self) -> str:
        better = "higher" if self.higher_is_better else "lower"
        head = f"{self.dense:.4g} for the dense model; change after cutting one group ({better} is better)"
        titles = ("axes, most sensitive first", "units", *(f"{ratio:.0%} left" for ratio in self.ratios))
        rows = [self._row(curve) for curve in self.ranked()]
        body = columns([titles, *rows], right=range(1, len(titles)))
        stays = [f"{name} stays: {why}" for name, why in self.stays.items()]
        return "\n".join([head, "", *body, *([""] if stays else []), *stays])

    def ranked(self) -> list[Curve]:
        """Return the curves, sorted by mean harm, the greatest first."""
        measured = [curve for curve in self.curves if curve.points]
        return sorted(measured, key=lambda curve: -sum(self.harm(p.value) for p in curve.points) / len(curve.points))

    def _row(self, curve: Curve) -> tuple[str, ...]:
        cells = {p.ratio: f"{p.value - self.dense:+.4g}" for p in curve.points}
        others = f" and {len(curve.units) - 1} more" if len(curve.units) > 1 else ""
        units = str(curve.units[curve.name])
        return (f"{curve.name}{others}", units, *(cells.get(ratio, "") for ratio in self.ratios))


def _convex(curve: Curve, measured: Sensitivity) -> tuple[np.ndarray, np.ndarray]:
    """Return the removed shares, ascending from 0, and the harm at each by rules 1 and 3."""
    by_kept = {point.kept: measured.harm(point.value) for point in curve.points}
    gone = np.array([0.0, *(1 - kept / curve.steps for kept in sorted(by_kept, reverse=True))])
    harm = np.array([0.0, *(max(by_kept[kept], 0.0) for kept in sorted(by_kept, reverse=True))])
    harm[1:] = np.minimum.accumulate(harm[:0:-1])[::-1]  # Rule 1
    slopes = np.maximum.accumulate(np.diff(harm) / np.diff(gone))  # Rule 3
    return gone, np.append(0.0, np.cumsum(slopes * np.diff(gone)))


def from_journal(journal: Journal) -> Sensitivity:
    """Return the measurements in a journal. Raises `FileError` for an invalid one."""
    try:
        about: Mapping[str, Any] = journal.about
        return Sensitivity(
            dense=journal.values[DENSE],
            curves=tuple(_curve(data, journal.values) for data in about["curves"]),
            higher_is_better=bool(about["higher_is_better"]),
            ratios=tuple(map(float, about["ratios"])),
            stays=dict(about["stays"]),
            fingerprint=journal.fingerprint,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(f"this is not a valid sensitivity file: {type(error).__name__}: {error}") from error


def _curve(data: Mapping[str, Any], values: Mapping[str, float]) -> Curve:
    units = {str(name): int(n) for name, n in data["units"].items()}
    name = next(iter(units))
    kept = {float(ratio): int(level) for ratio, level in data["kept"].items()}
    points = [Point(r, k, values[key_of(name, k)]) for r, k in kept.items() if key_of(name, k) in values]
    return Curve(units, int(data["steps"]), tuple(sorted(points, key=lambda point: -point.ratio)))


__all__ = ["Sensitivity", "from_journal"]
