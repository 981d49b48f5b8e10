"""The loop: cut a little, train, and again, until the target is met or the metric has dropped too far.

    for stage in secateur.iterate(model, inputs, "macs=0.5", steps=5, carry=[optimizer]):
        train(stage.model, optimizer)                  # the user's own training

Each stage is a new, smaller copy of the model before; optimizers, schedulers and averages that are carried follow to
its parameters. Nothing here trains: who trains, and how, is the user's business.
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
    """A smaller model to train. `number` counts from 1 to `steps`; `target`: what it meets, of the original model.

    It is `stage.model` itself that is cut next: wrap it for training as you like, and train it in place.
    """

    number: int
    steps: int
    target: tuple[str, ...]
    pruned: Pruned

    @property
    def model(self) -> nn.Module:
        return self.pruned.model

    @property
    def plan(self) -> Plan:
        """From the model of the stage before to this one."""
        return self.pruned.plan

    @property
    def graph(self) -> Graph:
        """Of the model of the stage before."""
        return self.pruned.graph


class StageOptions(CuttingOptions, total=False):
    """How each stage is cut."""

    select: SelectLike


class IterateOptions(StageOptions, JudgeOptions, total=False):
    """What `iterate` takes by name: how each stage is cut, and judged."""


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
    """Smaller and smaller copies of `model`, stage by stage, each to be trained before the next; `model` stays whole.

    After stage k of `steps` the share `schedule(k)` of the ORIGINAL model remains: of the model before its first cut.
    Each of several targets follows it from all to its end, as do `keep`, `width` and `ceiling` in `select`; floors are
    shares of the original. The widths that a `channels` target leaves are those of a single cut, in however many
    stages. A stage that has nothing to cut is passed over. Whatever fails in a stage leaves the model of the stage
    before, and what is carried, as they were.

    Args:
        model: A trained model.
        example_inputs: What it is called with, as `secateur.trace` takes it.
        target: What remains at the end, as `secateur.plan` takes it.
        schedule: A name in `secateur.train.schedules.SCHEDULES`, or a function (end, steps) -> schedule. Default:
            "linear".
        steps: How many stages there are. Default: 1.
        carry: Optimizers, learning rate schedulers, averaged models and the like that follow to the parameters of each
            new stage, and stay with the newest; see `secateur.apply.transplant`. Default: ().
        start: How many stages are done: `iterate(half_cut, ..., start=k)` goes on with stage k + 1. Default: 0.
        importance, scope, data, loss, recover, calls, outputs, uniform, seed: Of each stage, with the defaults of
            `secateur.prune`; `data` is read again in each.
        select: Limits; see `secateur.plan`. Default: None.
        metric: A function from a model to a number, asked once a stage was trained, when the loop goes on. Default:
            None.
        max_drop: Where the metric has dropped by more than this (an absolute difference), the loop ends with the stage
            before. Default: None, it does not.
        higher_is_better: Of the metric. Default: True.
        dense: What the metric drops from. Default: None, what it says of `model`.

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

    A loop that was left by `break` goes on where it was when it is iterated over again.
    """

    model: nn.Module
    """The last good model: the newest, or with `max_drop` the newest that was judged; at first the one given."""
    stopped: str | None
    """Why it is over: "target" (met), "max_drop", or "steps": they ended before the schedule did. None before that."""

    def __init__(
        self, graph: Graph, goals: Goals, cutting: Cutting, judge: StageJudge, carry: Any = (), start: int = 0
    ):
        self.model, self.stopped = graph.model, None
        self.done = start
        self._graph: Graph | None = graph
        self._goals, self._cutting, self._judge = goals, cutting, judge
        self._carry = list(carry) if isinstance(carry, (list, tuple)) else [carry]
        self._records = [Record(0, (), graph.totals)]
        self._open: Stage | None = None  # handed out, and not judged yet
        self._newest = graph.model
        self._plans: list[Plan] = []
        self._names = own_names(graph)  # of the axes of the newest graph, as they were called at first

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

    # --- one stage ---

    def _made(self, number: int) -> Stage | None:
        """The next stage, or None where there is nothing to cut. Nothing is changed unless all of it succeeds."""
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
        """Judge what was trained since."""
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
        """What is carried is of the stage that was given up: who trains on with it would not train `model`."""
        good, given_up = (f"stage {r.number}" if r.number else "the beginning" for r in self._records[-2:])
        for optimizer in optimizers_in(self._carry):
            _warn_at_step(
                optimizer,
                f"this {type(optimizer).__name__} holds the parameters of {given_up}, which dropped too far, and "
                f"iteration.model is the model of {good}\nbuild an optimizer anew to train that",
            )

    def _dense(self) -> float | None:
        known = self._judge.dense
        return known if known is not None else self._judge.value(self.model, "the model at first")

    # --- what happened ---

    @property
    def plan(self) -> Plan | None:
        """From the model that the loop began with to `iteration.model`, as one plan; None where they are the same.

        Raises `PruningError` where its cuts cannot be one plan (see `Plan.then`); the model has them all the same.
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
        """The model at first and every stage, as plain data for JSON."""
        return [record.as_dict() for record in self._records]

    def __str__(self) -> str:
        return "\n".join([*table(self._records, judged=self._judge.metric is not None), self._end()])

    def _end(self) -> str:
        steps = self._goals.steps
        if self.stopped is None:
            return f"after step {self.done} of {steps}"
        if self.stopped == "max_drop":
            text = f"ended: the last stage dropped by more than {self._judge.max_drop:g}; the model is that before it"
            return f"{text}, what is carried is of the last stage" if self._carry else text
        return {
            "target": "ended: the target is met",
            "steps": f"ended after {steps} steps, before the schedule was at its end",
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
        raise InputError(f"start={start!r}; it is the number of steps that are done, 0 to {steps}")


def _check_serves(cutting: Cutting, stages: int) -> None:
    """Raise `InputError` for what serves a single stage only."""
    if stages < 2:
        return
    if is_ready(cutting.importance):
        raise InputError(
            f"importance= gives ready scores, which are of the model before stage 1, and there are {stages} stages\n"
            "give the name of a criterion or a function, which score each stage's model anew"
        )
    if isinstance(cutting.data, Iterator):  # asked of its type: to begin it would draw a number
        raise InputError(f"data= is an iterator, which stage 1 of {stages} uses up\ngive a list or a DataLoader")


__all__ = ["IterateOptions", "Iteration", "Stage", "StageOptions", "iterate"]
