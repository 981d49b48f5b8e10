"""The search for the largest cut that costs at most --max-drop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Optional

from typer import Option

from secateur.cli.calibration import Calibration
from secateur.cli.inspect import traced
from secateur.cli.measuring import MetricReader
from secateur.cli.options import CutOptions
from secateur.cli.origin import Loaded
from secateur.cli.plan import check, plan_options
from secateur.cli.sensitivity import contents, judging
from secateur.errors import InputError

if TYPE_CHECKING:
    from secateur.probing import Found

# Optional[...], since typer evaluates these at run time.
# ruff: noqa: UP045


@dataclass(frozen=True)
class DropOptions:
    """How far the metric may drop."""

    panel: ClassVar[str] = "Largest cut"

    max_drop: Annotated[
        Optional[float],
        Option(
            help="Find the largest cut of --target macs (without a number) that lowers the metric on the test data by "
            "at most this: percentage points for accuracy, else in the unit of --metric."
        ),
    ] = None
    lower_is_better: Annotated[bool, Option("--lower-is-better", help="Lower values of the metric are better.")] = False
    tolerance: Annotated[float, Option(help="Precision of the search, as a share of the target.")] = 0.01
    probes: Annotated[
        Optional[Path],
        Option(metavar="FILE", help="JSON file of measured values; a search that was interrupted continues from it."),
    ] = None


def check_drop(cutting: CutOptions, drop: DropOptions) -> None:
    """Raise `InputError` for options that are wrong in themselves, before a model is built."""
    if drop.max_drop is None:
        if drop.lower_is_better or drop.probes:
            raise InputError(
                f"--{'lower-is-better' if drop.lower_is_better else 'probes'} is given without --max-drop; add it"
            )
        check(cutting)
        return
    if len(cutting.target) != 1 or "=" in cutting.target[0]:
        raise InputError(
            f"--max-drop finds how much remains, so it takes one --target without a number, not {cutting.target}\n"
            "write --target macs --max-drop 1.0"
        )
    goal_of(cutting, drop, None).check()
    check(replace(cutting, target=[f"{cutting.target[0]}=1"]))


def goal_of(cutting: CutOptions, drop: DropOptions, judge: MetricReader | None) -> Any:
    """Return the goal of the search; accuracy is in percent."""
    from secateur.probing.bisection import Goal

    metric = float if judge is None else judging(judge, 100.0 if judge.name == "accuracy" else 1.0)
    return Goal(cutting.target[0], metric, drop.max_drop, not drop.lower_is_better, drop.tolerance)  # type: ignore[arg-type]


def searched(
    dense: Loaded,
    cutting: CutOptions,
    drop: DropOptions,
    judge: MetricReader | None,
    calibration: Calibration,
    seed: int,
) -> Found:
    """Return the largest cut whose cost on the test data is allowed."""
    from secateur.probing.bisection import search_graph
    from secateur.probing.journal import JournalSettings
    from secateur.recover import Recovering

    if judge is None:
        raise InputError("--max-drop needs data: add --data mnist, a folder of images, or file.py:function")
    judge.rehearse(dense.model)
    key = f"{judge.name} on {contents(judge)}" if drop.probes else ""
    graph = traced(dense, uniform=cutting.uniform)
    statistics = calibration.read(graph, cutting.importance, seed)
    goal = goal_of(cutting, drop, judge)
    if calibration.recover:
        goal = replace(goal, finish=Recovering(graph, calibration.batches, calibration.recover, statistics, seed))
        key = f"{key} recover={calibration.recover}"
    return search_graph(
        graph,
        goal,
        JournalSettings(drop.probes, key, progress=True),
        verify=False,
        **plan_options(cutting, statistics, seed),
    )
