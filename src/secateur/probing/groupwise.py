"""`sensitivity`: measure the effect on a metric of cutting each group of tied axes alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from secateur.base.hashing import called, of_tensors
from secateur.base.keywords import by_group
from secateur.base.process import trainable
from secateur.base.progress import bar
from secateur.cost.size_polynomials import Counts
from secateur.errors import InputError
from secateur.graph.fingerprint import fingerprint_of
from secateur.graph.graph import Graph
from secateur.graph.parts import Group
from secateur.importance import Criterion, Scores, score
from secateur.plan.plan import Plan
from secateur.planning.by_counts import keeping, whole
from secateur.planning.selection.conditions import Conditions
from secateur.planning.selection.limits_by_axis import Wishes
from secateur.planning.selection.select import Select, SelectLike
from secateur.planning.solver.ladders import allowed_levels, highest
from secateur.probing.curves import DENSE, KIND, Sensitivity, from_journal
from secateur.probing.journal import Journal, JournalOptions, JournalSettings, key_of
from secateur.probing.metric import Finish, Metric, check_functions, judged, made
from secateur.statistics.sums import Statistics

if TYPE_CHECKING:
    from typing_extensions import Unpack

RATIOS = (0.9, 0.75, 0.5, 0.25)
KeptByRatio: TypeAlias = "list[tuple[Group, dict[float, int]]]"


@trainable
def sensitivity(
    graph: Graph,
    evaluate: Metric,
    *,
    ratios: Sequence[float] = RATIOS,
    importance: str | Criterion | Scores = "l2",
    select: SelectLike = None,
    statistics: Statistics | None = None,
    finish: Finish | None = None,
    higher_is_better: bool = False,
    seed: int = 0,
    **options: Unpack[JournalOptions],
) -> Sensitivity:
    """Measure `evaluate` with one group of tied axes cut at a time, for each ratio of units that remain.

    Args:
        graph: The Graph that `secateur.trace` returns.
        evaluate: A function from a model to one finite number, such as a loss or metric on calibration data. It
            receives copies in evaluation mode; the model itself is left as it is.
        ratios: Shares of the units that remain, each rounded down to a count that the group can have. Default: 0.9,
            0.75, 0.5 and 0.25.
        importance: Decides which units are removed first; see `secateur.importance`. Default: "l2".
        select: Axes that the selection protects or fixes are not measured. Default: None.
        statistics: What `secateur.statistics.calibrate` collected, for an importance that needs it. Default: None.
        finish: A function (model, plan) that is applied to each cut model before it is measured, such as recovery
            (`secateur.recover.Recovering`). Default: None.
        higher_is_better: Whether higher values of `evaluate` are better. Default: False, as for a loss.
        seed: Seed of the "random" importance. Default: 0.
        path: A JSON file to which every value is written as soon as it is known, so that an interrupted run can
            continue and values are never measured twice. It is refused for other weights, axes, scores, function names,
            or another `key`. Default: None.
        key: A name for everything else that the values depend on, such as the data. Default: "".
        progress: Whether to show a progress bar. Default: False.

    Returns:
        The measurements. They print as a table, `plot` draws them, and `plan(graph, target, allocation=result)` uses
        them.

    Raises:
        InputError: A value is not a finite number; the message names the axis and the ratio.
        FileError: The file belongs to another measurement.

    Example:
        >>> import secateur
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        >>> x, y = torch.ones(2, 4), net(torch.ones(2, 4)).detach()
        >>> graph = secateur.trace(net, torch.zeros(1, 4))
        >>> found = sensitivity(graph, lambda model: (model(x) - y).square().mean(), ratios=[0.5])
        >>> found.dense, [(point.ratio, point.kept) for point in found.curve("0").points]
        (0.0, [(0.5, 4)])

    Reference:
        Li, Kadav, Durdanovic, Samet and Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017, section 3.2.
    """
    (kept,) = by_group(sensitivity, options, JournalOptions)
    _check(graph, evaluate, finish, ratios)
    probes = Probes(graph, score(graph, importance, statistics=statistics, seed=seed), finish)
    ratios = tuple(sorted(map(float, ratios), reverse=True))
    return _measured(probes, evaluate, ratios, Select.of(select).on(graph), JournalSettings(**kept), higher_is_better)


def _measured(
    probes: Probes,
    evaluate: Metric,
    ratios: tuple[float, ...],
    wishes: Wishes,
    settings: JournalSettings,
    higher_is_better: bool,
) -> Sensitivity:
    """Measure the values that the journal does not have yet."""
    graph, (asked, stays) = probes.graph, probes.asked(wishes, ratios)
    marks = {
        **fingerprint_of(graph),
        "scores": of_tensors(sorted(probes.scores.items(), key=lambda item: item[0])),
        "functions": f"{called(evaluate)}, finished by {called(probes.finish)}",
        "key": settings.key,
    }
    about = {
        "ratios": list(ratios),
        "higher_is_better": higher_is_better,
        "stays": stays,
        "curves": [_about(group, kept) for group, kept in asked],
    }
    journal = Journal.opened(settings.path, KIND, marks, about)
    todo = [(group, ratio, level) for group, kept in asked for ratio, level in kept.items()]
    with bar("sensitivity", 1 + len(todo), shown=settings.progress) as step:
        journal.measured(DENSE, lambda: judged(evaluate, made(graph, whole(graph)), "the whole model"))
        for group, ratio, level in todo:
            step(group.axes[0].name)
            measure = partial(probes.value, evaluate, group, ratio, level)
            journal.measured(key_of(group.axes[0].name, level), measure)
    return from_journal(journal)


def _check(graph: Graph, evaluate: Any, finish: Any, ratios: Sequence[float]) -> None:
    if not isinstance(graph, Graph):
        kind = type(graph).__name__
        raise InputError(f"graph is a {kind}, not a Graph\nmake one first: secateur.trace(model, example_inputs)")
    check_functions(evaluate, finish, "evaluate")
    wrong = [ratio for ratio in ratios if isinstance(ratio, (str, bool)) or not 0 < ratio < 1]
    if wrong or not ratios:
        raise InputError(
            f"ratios={ratios!r} is not a list of shares between 0 and 1\n"
            f"give shares of the units that remain, such as {RATIOS}"
        )
    if not graph.axes:
        raise InputError("this model has no prunable axis\nprint(graph) lists everything that is frozen and why")


def _about(group: Group, kept: Mapping[float, int]) -> dict[str, Any]:
    units = {axis.name: axis.size for axis in group.axes}
    return {"units": units, "steps": group.steps, "kept": {str(ratio): level for ratio, level in kept.items()}}


@dataclass(frozen=True)
class Probes:
    """Measurements of models with one group cut."""

    graph: Graph
    scores: Mapping[str, torch.Tensor]
    finish: Finish | None

    def asked(self, wishes: Wishes, ratios: Sequence[float]) -> tuple[KeptByRatio, dict[str, str]]:
        """Return the level of each group at each ratio, and why other groups cannot be cut alone."""
        free = Select(floor=0).on(self.graph)
        found: KeptByRatio = []
        stays: dict[str, str] = {}
        for i, group in enumerate(self.graph.groups):
            levels = allowed_levels(group, free).tolist()
            if i in wishes.held or i in wishes.sizes or len(levels) < 2:
                continue
            wanted = {ratio: levels[highest(levels, ratio * group.steps + 1e-9)] for ratio in ratios}
            refused = {level: why for level in set(wanted.values()) for why in self._refusals(group, level)}
            kept = {ratio: level for ratio, level in wanted.items() if level not in refused and level < group.steps}
            if kept:
                found.append((group, kept))
            else:
                stays[group.axes[0].name] = next(iter(refused.values()), "no smaller count is within these ratios")
        return found, stays

    @cached_property
    def _conditions(self) -> Conditions:
        return Conditions(self.graph)

    def _refusals(self, group: Group, level: int) -> Iterator[str]:
        yield from (broken.where for broken in self._conditions.broken(self._counts(group, level)))

    def value(self, evaluate: Metric, group: Group, ratio: float, level: int) -> float:
        """Measure the model in which a group keeps `level` of its steps."""
        small = made(self.graph, self._plan(group, level), self.finish)
        return judged(evaluate, small, f"axis {group.axes[0].name!r} at {ratio:.0%} ({level} of {group.steps} steps)")

    def _plan(self, group: Group, level: int) -> Plan:
        return keeping(self.graph, self._counts(group, level), self.scores)

    def _counts(self, group: Group, level: int) -> Counts:
        counts = self.graph.cost.full.copy()
        for i, axis in enumerate(self.graph.axes):
            if self.graph.groups[axis.group] is group:
                counts[i] = level * (axis.size // group.steps)
        return counts
