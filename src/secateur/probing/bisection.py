"""`search`: the largest cut whose drop in a user's metric stays within a limit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

from torch import nn

from secateur.apply.ready import plans_of
from secateur.base.hashing import called, digest
from secateur.base.keywords import by_group
from secateur.base.process import trainable
from secateur.base.progress import bar
from secateur.base.text import columns
from secateur.cost.kinds import KINDS
from secateur.errors import InputError, TargetError, nearest
from secateur.graph.fingerprint import fingerprint_of
from secateur.graph.graph import Graph
from secateur.plan.plan import Plan
from secateur.planning import plan
from secateur.planning.by_counts import whole
from secateur.planning.planning import Drop
from secateur.planning.selection.select import SelectLike
from secateur.planning.solver.ladders import MeasuredHarm
from secateur.planning.targets import target_at
from secateur.probing.curves import DENSE
from secateur.probing.journal import Journal, JournalOptions, JournalSettings
from secateur.probing.metric import Finish, Metric, check_functions, judged, made
from secateur.pruning import Cutting, CuttingOptions, Pruned, finished
from secateur.recover import Recovering
from secateur.statistics.sums import Statistics

if TYPE_CHECKING:
    from typing_extensions import Unpack

KIND = "search"


@dataclass(frozen=True, slots=True)
class Probe:
    """A cut that was tried.

    `target` is the target of the plan, `remains` the share of the kind that the cut leaves (0 to 1), `value` the metric
    of the cut model, and `drop` how much worse it is than that of the dense model, in the metric's unit.
    """

    target: str
    remains: float
    value: float
    drop: float


@dataclass(frozen=True)
class Found(Pruned):
    """The result of `search`: the largest cut within the allowed drop, and all cuts that were tried.

    In addition to the fields of `secateur.Pruned`: `dense` is the metric of the dense model, `value` that of the cut
    model, `max_drop` the allowed drop, and `probes` the cuts that were tried, in order.
    """

    dense: float = 0.0
    value: float = 0.0
    max_drop: float = 0.0
    probes: tuple[Probe, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return how the cut was found, as plain data for JSON."""
        return {
            "dense": self.dense,
            "value": self.value,
            "max_drop": self.max_drop,
            "probes": list(map(asdict, self.probes)),
        }

    def __str__(self) -> str:
        return f"{Pruned.__str__(self)}\n\n{self.tried()}"

    def tried(self) -> str:
        """Return a table of the cuts that were tried, in order."""
        head = ("target", "value", "drop", "")
        rows = [
            (p.target, f"{p.value:.6g}", f"{p.drop:.4g}", "" if p.drop <= self.max_drop else "too much")
            for p in self.probes
        ]
        first = f"the largest cut with a drop of at most {self.max_drop:g} from {self.dense:.6g}"
        return "\n".join([first, *columns([head, *rows], right=(1, 2))])


class PlanOptions(TypedDict, total=False):
    """The options that are passed on to `plan`."""

    select: SelectLike
    drop: Drop | None
    allocation: MeasuredHarm | None
    statistics: Statistics | None


class SearchOptions(CuttingOptions, PlanOptions, JournalOptions, total=False):
    """The keyword options of `search`: how it cuts, what it passes on to `plan`, and where it keeps values."""


@trainable
def search(
    model: nn.Module,
    example_inputs: Any,
    kind: str,
    *,
    metric: Metric,
    max_drop: float,
    higher_is_better: bool = True,
    tolerance: float = 0.01,
    finish: Finish | None = None,
    verify: bool | None = None,
    **options: Unpack[SearchOptions],
) -> Found:
    """Search for the largest cut of `model` that worsens a metric by at most `max_drop`, by bisection.

    The model is traced once and left as it is. If the metric is not monotone, the result may not be the largest cut,
    but it was measured and is within `max_drop`. The procedure is our own.

    Args:
        model: A trained model.
        example_inputs: Inputs of the model, as for `secateur.trace`.
        kind: The cost to reduce: "macs" or another kind of `secateur.cost.kinds`.
        metric: A function from a model to one finite number. It receives copies in evaluation mode.
        max_drop: How much worse the metric may become, in its own unit.
        higher_is_better: Whether higher values of the metric are better. Default: True.
        tolerance: Bisection ends when the next cut would differ by less than this share. Default: 0.01.
        finish: A function (model, plan) that is applied to each cut model before it is measured, in place of `recover`.
            Default: None.
        verify: Whether the final cut is verified, as in `secateur.prune`. Default: None.
        importance, scope, data, loss, recover, calls, outputs, uniform, seed: As for `secateur.prune`, with the same
            defaults. Each cut model is recovered before it is measured.
        select, drop, allocation, statistics: As for `secateur.plan`. Default: None.
        path: A JSON file to which every value is written as soon as it is known, so that an interrupted run can
            continue. It is refused for other weights, axes, function names, or another `key`. Default: None.
        key: A name for everything else that the values depend on, such as the data. Default: "".
        progress: Whether to show a progress bar. Default: False.

    Returns:
        The cut model with its plan, the metric before and after, and all cuts that were tried.

    Raises:
        TargetError: Every cut that was tried worsens the metric by more; the message has the smallest one.
        InputError: A value is not a finite number, or `max_drop` is negative.
        FileError: The file belongs to another search.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
        >>> found = search(net, torch.zeros(1, 4), "macs", metric=lambda model: model[0].out_features, max_drop=3)
        >>> found.model[0].out_features, found.dense, found.value
        (5, 8.0, 5.0)
    """
    goal = Goal(kind, metric, max_drop, higher_is_better, tolerance, finish)
    goal.check()
    cut, planned, kept = by_group(search, options, CuttingOptions, PlanOptions, JournalOptions)
    return _searched(model, goal, Cutting.of(example_inputs, cut), planned, JournalSettings(**kept), verify)


def _searched(
    model: nn.Module,
    goal: Goal,
    cutting: Cutting,
    planned: dict[str, Any],
    settings: JournalSettings,
    verify: bool | None,
) -> Found:
    """Run `search` with its options sorted by purpose."""
    data, recover, seed = cutting.data, cutting.recover, cutting.seed
    if goal.finish is not None and recover:
        raise InputError("finish= and recover= both change the cut model\ngive one of them, or recover inside finish")
    graph = cutting.traced(model)
    found = cutting.statistics(graph)
    planned = {"statistics": found, **planned, "importance": cutting.importance, "scope": cutting.scope, "seed": seed}
    if recover and data is not None:
        goal = replace(goal, finish=Recovering(graph, data, recover, planned["statistics"], seed))
        settings = replace(settings, key=f"{settings.key} recover={recover}")
    return search_graph(graph, goal, settings, verify=verify, **planned)


@dataclass(frozen=True, slots=True)
class Goal:
    """The cost to reduce, and the allowed drop of the metric."""

    kind: str
    metric: Metric
    max_drop: float
    higher_is_better: bool = True
    tolerance: float = 0.01
    finish: Finish | None = None

    def drop(self, dense: float, value: float) -> float:
        """Return how much worse a value is than that of the dense model."""
        return dense - value if self.higher_is_better else value - dense

    def check(self) -> None:
        """Raise `InputError` or `TargetError` for a value that is not allowed."""
        if self.kind not in KINDS:
            known = ", ".join(map(repr, KINDS))
            raise TargetError(
                f"kind={self.kind!r} is not a kind of target{nearest(str(self.kind), KINDS)}\n"
                f"give one of {known}, without a number"
            )
        check_functions(self.metric, self.finish, "metric")
        if not _is_number(self.max_drop) or not 0 <= self.max_drop < math.inf:
            raise InputError(
                f"max_drop={self.max_drop!r} is not a finite number from 0 up\n"
                "give how much worse the metric may become"
            )
        if not _is_number(self.tolerance) or not 0 < self.tolerance < 1:
            raise InputError(
                f"tolerance={self.tolerance!r} is not between 0 and 1\n"
                "give the share at which bisection ends, such as 0.01"
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def search_graph(graph: Graph, goal: Goal, settings: JournalSettings, *, verify: bool | None, **options: Any) -> Found:
    """Run `search` on a traced model."""
    marks = {
        **fingerprint_of(graph),
        "functions": f"{called(goal.metric)}, finished by {called(goal.finish)}",
        "key": settings.key,
    }
    search = TargetSearch(graph, goal, options, Journal.opened(settings.path, KIND, marks))
    with bar("search", search.most, shown=settings.progress) as step:
        chosen, value = search.run(step)
    small = made(graph, chosen, goal.finish)
    cut_by = plans_of(small)[-1] if plans_of(small) else chosen
    changed = goal.finish is not None and not cut_by.recovery and verify is None
    result = finished(graph, cut_by, small, verify=False if changed else verify)
    if changed and result.verification is None:
        result = replace(result, unproved="finish= may have changed its weights; verify=True proves the model as it is")
    return Found(
        **{name: getattr(result, name) for name in result.__dataclass_fields__},
        dense=search.dense,
        value=value,
        max_drop=goal.max_drop,
        probes=tuple(search.probes),
    )


class TargetSearch:
    """Bisection on the share that remains, between a cut that is too large and one that is not."""

    def __init__(self, graph: Graph, goal: Goal, options: dict[str, Any], journal: Journal):
        self.graph, self.goal, self.options, self.journal = graph, goal, options, journal
        self.probes: list[Probe] = []
        self.dense = 0.0

    @property
    def most(self) -> int:
        """The maximum number of measurements, including that of the dense model."""
        steps, width = 1, 1.0
        while width > self.goal.tolerance:
            steps, width = steps + 1, width / 2
        return steps

    def run(self, step: Callable[[str], None]) -> tuple[Plan, float]:
        """Return the largest cut within the allowed drop, and its value."""
        plan(self.graph, self._target(1.0), **self.options)  # raises early for invalid options
        model = made(self.graph, whole(self.graph))
        self.dense = self.journal.measured(DENSE, lambda: judged(self.goal.metric, model, "the whole model"))
        low, high = 0.0, 1.0
        best: tuple[Plan, float] | None = None
        while high - low > self.goal.tolerance:
            step("")
            middle = (low + high) / 2
            found = self._planned(middle)
            probe = self._probed(found) if found is not None else None
            if found is None or probe is None or probe.drop > self.goal.max_drop:
                low = middle
            else:
                high, best = min(middle, probe.remains), (found, probe.value)
        if best is None:
            raise self._nothing()
        return best

    def _planned(self, share: float) -> Plan | None:
        """Return the plan that leaves this share, or None where it cannot be reached."""
        try:
            return plan(self.graph, self._target(share), **self.options)
        except TargetError:
            return None

    def _target(self, share: float) -> str:
        return target_at(self.goal.kind, share, self.graph.totals[self.goal.kind], digits=6)

    def _probed(self, found: Plan) -> Probe:
        """Measure a cut; equal cuts are measured once."""
        (target,) = found.target
        key = digest(replace(found, target=(), notes={}).to_json())
        value = self.journal.measured(key, lambda: self._judge(found, target))
        probe = Probe(target, self._remains(found), value, self.goal.drop(self.dense, value))
        self.probes.append(probe)
        return probe

    def _judge(self, found: Plan, target: str) -> float:
        return judged(self.goal.metric, made(self.graph, found, self.goal.finish), f"the cut to {target}")

    def _remains(self, found: Plan) -> float:
        """Return the share that a cut leaves, or the requested share where the plan does not count the kind."""
        before, after = found.before[self.goal.kind], found.after[self.goal.kind]
        return after / before if before and after else float(found.target[0].partition("=")[2])

    def _nothing(self) -> TargetError:
        goal = self.goal
        head = f"no cut worsens the metric, {self.dense:g} before, by at most {goal.max_drop:g}"
        if not self.probes:
            return TargetError(f"{head}: no {goal.kind} can be cut\nprint(graph) lists the reasons")
        least = max(self.probes, key=lambda probe: probe.remains)
        return TargetError(
            f"{head}\nthe smallest cut tried is {least.target}: {least.value:g}, a drop of {least.drop:g}\n"
            "allow a larger drop, recover what is cut (finish=), or choose better (importance=, allocation=)"
        )


__all__ = ["Found", "Goal", "Probe", "SearchOptions", "search", "search_graph"]
