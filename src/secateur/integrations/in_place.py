"""The loop of `iterate` for a trainer that holds on to its model: stage by stage, the model is cut in place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from secateur.anatomy.calls import Call
from secateur.anatomy.running import device_of
from secateur.apply.in_place import become_
from secateur.apply.ready import plans_of
from secateur.apply.transplant import States
from secateur.base.keywords import check_names, option_names
from secateur.errors import InputError
from secateur.train.iterate import IterateOptions, Iteration, Stage, iterate
from secateur.train.stage_verdict import Record, StageJudge

UNITS = ("steps", "epochs")
SET_HERE = ("model", "example_inputs", "target", "start", "dense")
"""Options of `iterate` that are no business of the caller's."""
OWN = ("every", "unit", "steps", "carry")
"""What a callback takes as well."""
KNOWN = (*OWN, *(name for name in option_names(iterate, IterateOptions) if name not in (*SET_HERE, *OWN)))


@dataclass(frozen=True, slots=True)
class Pace:
    """When stages come: `steps` of them, one after every so many optimizer steps or epochs. Raises `InputError`."""

    steps: int = 1
    every: int = 100
    unit: str = "steps"

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise InputError(f"unit={self.unit!r}; stages come after every so many 'steps' or 'epochs'")
        for name in ("steps", "every"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"{name}={value!r}; give a whole number from 1 up")

    @property
    def last(self) -> int:
        """When the last stage comes."""
        return self.steps * self.every

    def due(self, unit: str, count: int) -> int:
        """How many stages have come after `count` units of training; counts may go up by more than one at a time.

        >>> [Pace(steps=2, every=10).due("steps", count) for count in (5, 10, 21, 30)]
        [0, 1, 2, 2]
        """
        return min(count // self.every, self.steps) if unit == self.unit else 0

    def check_reaches(self, unit: str, total: int) -> None:
        """Raise `InputError` where the training ends before the last stage."""
        if unit == self.unit and 0 < total < self.last:
            raise InputError(
                f"the training ends after {total} {unit}, before the last stage\n"
                f"  stages {self.steps}, one every {self.every} {unit}: the last comes after {self.last}\n"
                "train longer, or give a smaller every="
            )


class InPlace:
    """Prunes a model in place, a stage at a time; what holds its parameters follows.

    history: the model at first and each stage, as plain data. stopped: "target" or "max_drop" once it is over. model:
    where a stage dropped too far, a copy of the model before it; else the model itself.
    """

    def __init__(self, target: str | Sequence[str], example_inputs: Any, pace: Pace, options: dict[str, Any]):
        check_names(options, KNOWN)
        self.pace = pace
        self.stopped: str | None = None
        self.model: nn.Module | None = None
        self._target, self._inputs = target, example_inputs
        given = {name: options.pop(name) for name in ("metric", "max_drop", "higher_is_better") if name in options}
        self._judge, self._options = StageJudge(**given).check(), options
        self._records: list[Record] = []
        self._done = 0

    def begin(self, model: nn.Module, example: Callable[[], Any], trained: int = 0) -> None:
        """Get ready before training, or after `trained` units of it where a run goes on from a checkpoint.

        `example` gives example inputs where the user gave none. Whatever can be wrong with the target is found here.
        Raises `InputError` and `TargetError` as `iterate` does.
        """
        self.model, self.stopped = model, None
        self._inputs = self._inputs if self._inputs is not None else example()
        self._done = min(trained // self.pace.every, self.pace.steps)
        totals = self._stages(model).first.totals
        self._records = [Record(0, (), totals, self._judge.value(model, "the model at first"))]

    def after(self, model: nn.Module, unit: str, count: int, carry: States) -> Stage | None:
        """Cut `model` if a stage is due after `count` steps or epochs; gives the stage."""
        number = self.pace.due(unit, count)
        if number <= self._done or self.stopped or not self._keeps_up(model):
            return None
        self._done = number - 1
        stage = next(self._stages(model), None)
        self._done = number
        if stage is None or stage.number > number:  # nothing to cut yet: the loop went on to a stage that is not due
            return None
        before = copy.deepcopy(model) if self._judge.may_stop else None
        become_(model, stage.model, carry)
        self.model = model if before is None else before
        self._records.append(Record(stage.number, stage.target, stage.plan.after))
        return stage

    def end(self, model: nn.Module) -> None:
        """Judge the last stage, which was trained since."""
        if not self.stopped and self._keeps_up(model):
            self.model = model
            self.stopped = "target" if self._done == self.pace.steps else None

    def _stages(self, model: nn.Module) -> Iteration:
        home = device_of(model)
        inputs = Call.of(self._inputs).map(lambda tensor: tensor.to(home))
        return iterate(model, inputs, self._target, steps=self.pace.steps, start=self._done, **self._options)

    def _keeps_up(self, model: nn.Module) -> bool:
        """Whether the newest stage, now that it was trained, is good enough."""
        record, first = self._records[-1], self._records[0]
        if record is not first and record.metric is None and not self._judge.settle(record, first, model):
            self.stopped = "max_drop"
        return record.good

    @property
    def history(self) -> list[dict[str, Any]]:
        return [record.as_dict() for record in self._records]

    @staticmethod
    def plans(model: nn.Module) -> str:
        """The plans that a model went through, as a JSON list."""
        return f"[{','.join(plan.to_json() for plan in plans_of(model))}]"


class InPlaceCallback:
    """What the callbacks of all trainers take, and what they tell.

    After every `every` optimizer steps (`unit="epochs"`: epochs) comes one of `steps` stages of a schedule, as in
    `secateur.iterate`, whose other options are taken too: `schedule`, `importance`, `select`, `scope`, `data`, `loss`,
    `recover`, `calls`, `outputs`, `uniform`, `metric`, `max_drop`, `higher_is_better`, `seed`. example_inputs: what the
    model is called with. carry: what else follows, as an EMA of your own.

    `pruning.history` has the stages as plain data. Where `metric` drops by more than `max_drop`, training stops, and
    `pruning.model` is the model of the stage before.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        example_inputs: Any = None,
        *,
        every: int = 100,
        unit: str = "steps",
        steps: int = 1,
        carry: States = (),
        **options: Any,
    ):
        self.pruning = InPlace(target, example_inputs, Pace(steps, every, unit), options)
        self._carry = carry

    def _enough(self, model: nn.Module, unit: str, count: int, followers: Sequence[Any]) -> bool:
        """Cut `model` if a stage is due, with all that holds its parameters; whether training is to stop."""
        self.pruning.after(model, unit, count, [*followers, self._carry])
        return self.pruning.stopped is not None


__all__ = ["InPlace", "InPlaceCallback", "Pace"]
