"""`ScaleHistory`: record how the scales of norms change during sparsity training."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from secateur.base.paths import PathLike, path_of
from secateur.base.text import columns, counted, share
from secateur.base.writing import save_json
from secateur.errors import InputError
from secateur.graph.graph import Graph
from secateur.planning.selection.select import SelectLike
from secateur.train.penalties.penalty import unwrapped
from secateur.train.penalties.places import UnitPlace, chosen, places_of

NAMES = {0.0: "least", 0.1: "10 %", 0.25: "25 %", 0.5: "median", 0.75: "75 %", 0.9: "90 %", 1.0: "largest"}
QUANTILES = tuple(NAMES)
NEAR = 0.01
"""A scale below this share of the largest is reported as near zero."""
SHOWN = 12
"""The number of steps that `print` shows."""


class ScaleHistory:
    """The recorded norm scales of the units of each prunable axis. `print` shows their quantiles by step.

    For a unit that several norms scale, as in a residual stream, the sum of their absolute values is recorded, which is
    the score that network slimming gives it.

    Args:
        graph: A trace of the model that is trained.
        select: Which axes; see `secateur.plan`. Default: None, all.

    Raises:
        InputError: No norm scales any of these axes.

    Example:
        >>> import secateur, torch
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 2, 3))
        >>> history = ScaleHistory(secateur.trace(net, torch.zeros(1, 3, 8, 8)))
        >>> history.record(0)
        >>> history.as_dict()["quantiles"]["0.5"]
        [1.0]
    """

    def __init__(self, graph: Graph, select: SelectLike = None):
        scales = {axis.name: [p for p in places_of(graph, axis) if p.role == "scale"] for axis in chosen(graph, select)}
        self._places = {name: places for name, places in scales.items() if places}
        if not self._places:
            raise InputError("no norm scales any of these axes, so they have no scales to record")
        self.steps: list[int] = []
        self._scales: dict[str, list[list[float]]] = {name: [] for name in self._places}
        self._quantiles: list[list[float]] = []

    def record(self, step: int) -> None:
        """Record the current scales under a step number.

        Args:
            step: The number of the step, above that of the last record.

        Raises:
            InputError: `step` is not above the last one.
        """
        if self.steps and step <= self.steps[-1]:
            raise InputError(f"record({step}) after record({self.steps[-1]}); steps must rise")
        scales = {name: sum(map(_by_unit, places), torch.zeros(())) for name, places in self._places.items()}
        levels = torch.tensor(QUANTILES, dtype=torch.float64)
        self._quantiles.append(torch.quantile(torch.cat(list(scales.values())), levels).tolist())
        self.steps.append(step)
        for name, values in scales.items():
            self._scales[name].append(values.tolist())

    def attach(self, optimizer: Any, every: int = 1) -> RemovableHandle:
        """Record now, and again after every `every` steps of an optimizer.

        Args:
            optimizer: A `torch.optim.Optimizer`, or a wrapper around one, such as Accelerate's.
            every: The number of steps between records. Default: 1.

        Returns:
            A handle; `handle.remove()` stops recording.

        Raises:
            InputError: `every` is not a whole number from 1 up, or the optimizer does not call hooks.
        """
        if type(every) is not int or every < 1:
            raise InputError(f"every={every!r}; give a whole number of steps, from 1 up")
        first = self.steps[-1] if self.steps else 0
        if not self.steps:
            self.record(first)
        count = itertools.count(first + 1)

        def after_step(*_: Any) -> None:
            step = next(count)
            if (step - first) % every == 0:
                self.record(step)

        return unwrapped(optimizer).register_step_post_hook(after_step)

    def __str__(self) -> str:
        if not self.steps:
            return "no scales recorded yet"
        some = sorted({round(i * (len(self.steps) - 1) / (SHOWN - 1)) for i in range(SHOWN)})
        units = sum(len(rows[-1]) for rows in self._scales.values())
        cells = [(str(self.steps[i]), *(f"{q:.3g}" for q in self._quantiles[i]), share(self._near(i))) for i in some]
        return "\n".join(
            [
                *columns([("step", *NAMES.values(), "near zero"), *cells], right=range(9)),
                f"{counted(units, 'unit')} on {counted(len(self._scales), 'axis', 'axes')}; "
                f"near zero: below {NEAR:.0%} of the largest",
            ]
        )

    def _near(self, i: int) -> float:
        """Return the share of scales that are near zero in record `i`."""
        scales = [scale for rows in self._scales.values() for scale in rows[i]]
        limit = NEAR * max(scales)
        return sum(scale <= limit for scale in scales) / len(scales)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: "steps", and by step the "quantiles" of all units and the scales of "axes"."""
        quantiles = zip(*self._quantiles, strict=True) if self._quantiles else ([] for _ in QUANTILES)
        return {
            "steps": list(self.steps),
            "quantiles": {f"{q:g}": list(values) for q, values in zip(QUANTILES, quantiles, strict=True)},
            "axes": {name: [list(row) for row in rows] for name, rows in self._scales.items()},
        }

    def plot(self, path: PathLike) -> None:
        """Write an HTML page that plots the quantiles by step, and the last scales of every axis in falling order.

        Args:
            path: A file name that ends in .html.

        Raises:
            InputError: The path has another suffix, nothing was recorded, or plotly is not installed.
        """
        if path_of(path).suffix not in (".html", ".htm"):
            raise InputError(f"{path}: plots are HTML pages; name a file that ends in .html")
        if not self.steps:
            raise InputError("there are no scales to plot yet; call record(step) while training")
        try:
            from plotly import graph_objects, subplots
        except ImportError as error:
            raise InputError("plots need plotly: pip install 'secateur[plot]'") from error
        figure = subplots.make_subplots(1, 2, subplot_titles=("all scales, by quantile", "scales by axis, last step"))
        for quantile, values in self.as_dict()["quantiles"].items():
            figure.add_trace(graph_objects.Scatter(x=self.steps, y=values, name=f"quantile {quantile}"), 1, 1)
        for name, rows in self._scales.items():
            figure.add_trace(graph_objects.Scatter(y=sorted(rows[-1], reverse=True), name=name), 1, 2)
        figure.update_xaxes(title="step", col=1)
        figure.update_xaxes(title="unit, largest first", col=2)
        figure.update_layout(title="Scales of norms on prunable axes")
        save_json(path, figure.to_html(include_plotlyjs=True))


def _by_unit(place: UnitPlace) -> Tensor:
    """Return the sum of absolute scales of each unit in one parameter: (units,) float64."""
    values = place.held.parameter.detach().to("cpu", torch.float64).abs().movedim(place.dim, 0)
    return values.reshape(len(values), -1).sum(1)[place.positions].sum(1)


__all__ = ["QUANTILES", "ScaleHistory"]
