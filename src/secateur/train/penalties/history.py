"""How the scales of norms moved while they were trained with a penalty on them."""

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
"""A scale below this share of the largest is told as near zero."""
SHOWN = 12
"""Steps that `print` shows."""


class ScaleHistory:
    """The scales of the units of each prunable axis, recorded as often as one likes. `print` shows how they part.

    A unit that several norms scale, as in a residual stream, has the sum of their absolute values, which slimming ranks
    it by. `select`: which axes. Raises `InputError` where no norm scales any of them.

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
        """Keep the scales as they are, under the number of a step. Raises `InputError` where steps do not rise."""
        if self.steps and step <= self.steps[-1]:
            raise InputError(f"record({step}) after record({self.steps[-1]}); steps rise")
        scales = {name: sum(map(_by_unit, places), torch.zeros(())) for name, places in self._places.items()}
        levels = torch.tensor(QUANTILES, dtype=torch.float64)
        self._quantiles.append(torch.quantile(torch.cat(list(scales.values())), levels).tolist())
        self.steps.append(step)
        for name, values in scales.items():
            self._scales[name].append(values.tolist())

    def attach(self, optimizer: Any, every: int = 1) -> RemovableHandle:
        """Record now, and again after every so many steps of an optimizer, until `handle.remove()`."""
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
        """The share of scales that are near zero in a record."""
        scales = [scale for rows in self._scales.values() for scale in rows[i]]
        limit = NEAR * max(scales)
        return sum(scale <= limit for scale in scales) / len(scales)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: steps; each quantile over all units, step by step; scales by axis, step by step."""
        quantiles = zip(*self._quantiles, strict=True) if self._quantiles else ([] for _ in QUANTILES)
        return {
            "steps": list(self.steps),
            "quantiles": {f"{q:g}": list(values) for q, values in zip(QUANTILES, quantiles, strict=True)},
            "axes": {name: [list(row) for row in rows] for name, rows in self._scales.items()},
        }

    def plot(self, path: PathLike) -> None:
        """Write a page that shows the quantiles by step, and the last scales of every axis in falling order.

        Raises `InputError` for another suffix than .html, before anything was recorded, or where plotly is missing.
        """
        if path_of(path).suffix not in (".html", ".htm"):
            raise InputError(f"{path}: plots are pages; name a file that ends in .html")
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
    """The sum of absolute scales of each unit in one parameter."""
    values = place.held.parameter.detach().to("cpu", torch.float64).abs().movedim(place.dim, 0)
    return values.reshape(len(values), -1).sum(1)[place.positions].sum(1)


__all__ = ["QUANTILES", "ScaleHistory"]
