"""An HTML page of measured curves, one line per group of tied axes."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.base.paths import PathLike, path_of
from secateur.base.writing import save_json
from secateur.errors import InputError
from secateur.probing.points import Curve


def plot(path: PathLike, curves: Sequence[Curve], dense: float, better: str) -> None:
    """Write the page, which includes its scripts. `better`: whether "higher" or "lower" values are better.

    Raises `InputError` for a suffix other than .html or .htm, or if plotly is not installed.
    """
    if path_of(path).suffix not in (".html", ".htm"):
        raise InputError(f"{path} does not end in .html\nplots are HTML pages: give such a path")
    try:
        from plotly import graph_objects
    except ImportError as error:
        raise InputError("plots need plotly\ninstall it: pip install 'secateur[plot]'") from error
    lines = [graph_objects.Scatter(**_line(curve, dense)) for curve in curves]
    figure = graph_objects.Figure(lines)
    figure.add_hline(y=dense, line={"dash": "dot", "width": 1}, annotation_text="dense")
    figure.update_layout(
        title="Effect of cutting each group alone; most sensitive first",
        xaxis={"title": "units that remain, in percent", "autorange": "reversed"},
        yaxis={"title": f"value ({better} is better)"},
        legend={"title": "axis"},
    )
    save_json(path, figure.to_html(include_plotlyjs=True))


def _line(curve: Curve, dense: float) -> dict[str, object]:
    """Return the data of one line; points are at the shares after rounding to steps."""
    kept = {curve.steps: dense, **{point.kept: point.value for point in curve.points}}
    levels = sorted(kept, reverse=True)
    return {
        "name": curve.name if len(curve.units) == 1 else f"{curve.name} and {len(curve.units) - 1} more",
        "x": [100 * level / curve.steps for level in levels],
        "y": [kept[level] for level in levels],
        "mode": "lines+markers",
    }
