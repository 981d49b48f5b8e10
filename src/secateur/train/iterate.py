"""`iterate`: cut a little, train, and repeat, until the target is met or the metric has dropped too far.

    for stage in secateur.iterate(model, inputs, "macs=0.5", steps=5, carry=[optimizer]):
        train(stage.model, optimizer)                  # the user's own training

Each stage is a new, smaller copy of the model before; carried optimizers, schedulers and averaged models follow to its
parameters. Nothing here trains: the caller does.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer

from secateur.apply.transplant import optimizers_in, transplant
from secateur.base.keywords import by_group
from secateur.base.process import trainable
from secateur.errors import InputError
from secateur.graph.graph import Graph
from secateur.importance import is_ready
from secateur.plan.plan import Plan
from secateur.planning.selection.select import Select, SelectLike
from secateur.pruning import Cutting, CuttingOptions, Pruned
from secateur.train.goals import Goals, names_after, own_names
from secateur.train.schedules import Factory, factory, led
from secateur.train.stage_verdict import JudgeOptions, Record, StageJudge, table

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class Stage:
    """A smaller model to train in place. `stage.model` itself is cut next; wrappers for training are allowed.

    Attributes:
        number: The number of the stage, 1 to `steps`.
        steps: The number of stages.
        target: The targets that it meets, as shares of the original model.
        pruned: The smaller model with its plan, as `secateur.prune` returns it.
    """

    number: int
    steps: int
    target: tuple[str, ...]
    pruned: Pruned

    @property
    def model(self) -> nn.Module:
        """The smaller model."""
        return self.pruned.model

    @property
    def plan(self) -> Plan:
        """The plan of this cut, from the model of the stage before."""
        return self.pruned.plan

    @property
    def graph(self) -> Graph:
        """The Graph of the model of the stage before."""
        return self.pruned.graph


class StageOptions(CuttingOptions, total=False):
    """The options for how each stage is cut."""

    select: SelectLike


class IterateOptions(StageOptions, JudgeOptions, total=False):
    """The keyword options of `iterate`: how each stage is cut and judged."""


@trainable
def iterate(
    model: nn.Module,
    example_inputs: Any,
    target: str | Sequence[str] | None,
    *,
    schedule: str | Factory = "linear",
    steps: int = 1,
    carry: Any = (),
    start: int = 0,
    **options: Unpack[IterateOptions],
) -> Iteration:
    """Yield smaller and smaller copies of `model`, each to be trained before the next; `model` itself does not change.

    After stage k of `steps` the share `schedule(k)` of the ORIGINAL model remains: the model before its first cut. Each
    target follows the schedule, as do `keep`, `width` and `ceiling` in `select`; floors are shares of the original. The
    widths that a `channels` target leaves do not depend on the number of stages. A stage that has nothing to cut is
    skipped. If a stage fails, the model of the stage before and the carried objects do not change.

    Args:
        model: A trained model.
        example_inputs: The inputs that the model is called with; see `secateur.trace`.
        target: What remains at the end; see `secateur.plan`.
        schedule: A name in `secateur.train.schedules.SCHEDULES`, or (end, steps) -> schedule. Default: "linear".
        steps: The number of stages. Default: 1.
        carry: Optimizers, learning rate schedulers, averaged models and the like that follow to the parameters of each
            new stage, and stay with the newest; see `secateur.transplant`. Default: ().
        start: The stages that are done: `iterate(half_cut, ..., start=k)` continues with stage k + 1. Default: 0.
        importance, scope, data, loss, recover, calls, outputs, uniform, seed: How each stage is cut, with the defaults
            of `secateur.prune`; `data` is read again in each stage.
        select: Limits; see `secateur.plan`. Default: None.
        metric: A function from a model to a number, called after the training of each stage. Default: None.
        max_drop: If the metric has dropped by more than this (an absolute difference), the loop ends with the stage
            before. Default: None, no limit.
        higher_is_better: Whether a higher metric is better. Default: True.
        dense: The metric of the original model. Default: None, it is measured on `model`.

    Returns:
        An `Iteration`, an iterator over `Stage`s.

    Raises:
        TargetError: A target is malformed, out of reach or already met.
        InputError: An argument cannot be used.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> iteration = iterate(net, torch.zeros(1, 4), "channels=0.5", steps=2)
        >>> [stage.model[0].out_features for stage in iteration], iteration.stopped
        ([6, 4], 'target')
    """
    _check_steps(steps, start)
    staged, judged = by_group(iterate, options, StageOptions, JudgeOptions)
    select = Select.of(staged.pop("select", None))
    cutting, judge = Cutting.of(example_inputs, staged), StageJudge(**judged).check()
    _check_serves(cutting, steps - start)
    make = factory(schedule)
    graph = cutting.traced(model)
    goals = Goals(graph, target, select, lambda end: led(make, end, steps), steps)
    goals.check(graph, fresh=start == 0)
    return Iteration(graph, goals, cutting, judge, carry, start)


class Iteration(Iterator[Stage]):
    """The stages of a loop, made one by one. `print` shows them as a table.

    After a `break`, iterating again continues with the next stage.
    """

    model: nn.Module
    """The last good model: the newest, or with `max_drop` the newest that was judged; at first the original."""
    stopped: str | None
    """Why the loop ended: "target" (met), "max_drop", or "steps" (done before the schedule ended). None before that."""

    def __init__(
        self, graph: Graph, goals: Goals, cutting: Cutting, judge: StageJudge, carry: Any = (), start: int = 0
    ):
        self.model, self.stopped = graph.model, None
        self.done = start
        self._graph: Graph | None = graph
        self._goals, self._cutting, self._judge = goals, cutting, judge
        self._carry = list(carry) if isinstance(carry, (list, tuple)) else [carry]
        self._records = [Record(0, (), graph.totals)]
        self._open: Stage | None = None  # yielded, and not judged yet
        self._newest = graph.model
        self._plans: list[Plan] = []
        self._names = own_names(graph)  # from the axes of the newest graph to their original names

    @trainable
    def __next__(self) -> Stage:
        self._close()
        while self.stopped is None and self.done < self._goals.steps:
            stage = self._made(self.done + 1)
            self.done += 1
            if stage is not None:
                self._opened(stage)
                return stage
        if self.stopped is None:
            self.stopped = "target" if self._goals.arrives() else "steps"
        raise StopIteration

    def _made(self, number: int) -> Stage | None:
        """Make the next stage; None if there is nothing to cut. Nothing changes unless all of it succeeds."""
        graph = self._graph = self._graph or self._traced()
        asked = self._goals.asked(graph, self._names, number)
        if asked.nothing:
            return None
        pruned = self._cutting.pruned(graph, asked.targets, asked.select)
        if pruned.plan.is_empty:
            return None
        self._follow(pruned.model)
        return Stage(number, self._goals.steps, self._goals.texts(number), pruned)

    def _traced(self) -> Graph:
        graph = self._cutting.traced(self._newest)
        self._names = names_after(self._names, self._plans[-1], graph)
        return graph

    def _follow(self, small: nn.Module) -> None:
        if self._carry:
            transplant(self._carry, self._newest, small)

    def _opened(self, stage: Stage) -> None:
        self._plans.append(stage.plan)
        self._records.append(Record(stage.number, stage.target, stage.plan.after))
        self._open, self._newest, self._graph = stage, stage.model, None
        if not self._judge.may_stop:
            self.model = stage.model

    def _close(self) -> None:
        """Judge the open stage after its training."""
        if self.stopped is not None:
            return
        dense, stage = self._records[0], self._open
        if dense.metric is None:
            dense.metric = self._dense()
        if stage is None:
            return
        good = self._judge.settle(self._records[-1], dense, stage.model)
        self._open = None
        if good:
            self.model = stage.model
        else:
            self.stopped = "max_drop"
            self._warn_of_steps()

    def _warn_of_steps(self) -> None:
        """Make carried optimizers warn when they step: they hold parameters of the rejected stage, not of `model`."""
        good, rejected = (f"stage {r.number}" if r.number else "the beginning" for r in self._records[-2:])
        for optimizer in optimizers_in(self._carry):
            _warn_at_step(
                optimizer,
                f"this {type(optimizer).__name__} holds the parameters of {rejected}, which dropped too far, and "
                f"iteration.model is the model of {good}\nbuild a new optimizer to train that model",
            )

    def _dense(self) -> float | None:
        known = self._judge.dense
        return known if known is not None else self._judge.value(self.model, "the model at first")

    @property
    def plan(self) -> Plan | None:
        """All cuts from the original model to `iteration.model` as one plan; None if there are none.

        Raises `PruningError` if the cuts cannot be composed to one plan (see `Plan.then`).
        """
        return functools.reduce(Plan.then, self._good_plans) if self._good_plans else None

    @property
    def _good_plans(self) -> list[Plan]:
        unsure = self._open is not None and self._judge.may_stop
        return self._plans[:-1] if unsure or not self._records[-1].good else self._plans

    @property
    def first(self) -> Record:
        """The model that the loop began with."""
        return self._records[0]

    @property
    def history(self) -> list[dict[str, Any]]:
        """The original model and every stage, as plain data for JSON."""
        return [record.as_dict() for record in self._records]

    def __str__(self) -> str:
        return "\n".join([*table(self._records, judged=self._judge.metric is not None), self._end()])

    def _end(self) -> str:
        steps = self._goals.steps
        if self.stopped is None:
            return f"after step {self.done} of {steps}"
        if self.stopped == "max_drop":
            text = f"ended: the last stage dropped by more than {self._judge.max_drop:g}; the model is that before it"
            return f"{text}, but carried objects belong to the last stage" if self._carry else text
        return {
            "target": "ended: the target is met",
            "steps": f"ended after {steps} steps, before the end of the schedule",
        }[self.stopped]


def _warn_at_step(optimizer: Optimizer, text: str) -> None:
    """Warn once, when the optimizer takes its next step, if its class calls hooks."""
    if not getattr(type(optimizer).step, "hooked", False):
        return

    def warn(*_: Any) -> None:
        handle.remove()
        warnings.warn(text, UserWarning, stacklevel=3)

    handle = optimizer.register_step_pre_hook(warn)


def _check_steps(steps: int, start: int) -> None:
    if type(steps) is not int or steps < 1:
        raise InputError(f"steps={steps!r}; give a whole number from 1 up")
    if type(start) is not int or not 0 <= start <= steps:
        raise InputError(f"start={start!r}; it is the number of stages that are done, 0 to {steps}")


def _check_serves(cutting: Cutting, stages: int) -> None:
    """Raise `InputError` for options that work for a single stage only."""
    if stages < 2:
        return
    if is_ready(cutting.importance):
        raise InputError(
            f"importance= is a set of scores, which belong to the model before stage 1, and there are {stages} stages\n"
            "give the name of a criterion or a function, which score the model of each stage"
        )
    if isinstance(cutting.data, Iterator):  # checked by type: starting to iterate would draw a random number
        raise InputError(f"data= is an iterator, which stage 1 of {stages} uses up\ngive a list or a DataLoader")


__all__ = ["IterateOptions", "Iteration", "Stage", "StageOptions", "iterate"]
