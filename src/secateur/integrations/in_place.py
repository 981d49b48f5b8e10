"""The loop of `iterate` for a trainer that keeps one model object: in each stage the model is cut in place."""

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
"""Options of `iterate` that the callback sets itself."""
OWN = ("every", "unit", "steps", "carry")
"""Options of the callback itself."""
KNOWN = (*OWN, *(name for name in option_names(iterate, IterateOptions) if name not in (*SET_HERE, *OWN)))


@dataclass(frozen=True, slots=True)
class Pace:
    """When stages come: `steps` of them, one after every `every` optimizer steps or epochs. Raises `InputError`."""

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
        """The number of optimizer steps or epochs after which the last stage comes."""
        return self.steps * self.every

    def due(self, unit: str, count: int) -> int:
        """Return how many stages are due after `count` steps or epochs; `count` may rise by more than one at a time.

        >>> [Pace(steps=2, every=10).due("steps", count) for count in (5, 10, 21, 30)]
        [0, 1, 2, 2]
        """
        return min(count // self.every, self.steps) if unit == self.unit else 0

    def check_reaches(self, unit: str, total: int) -> None:
        """Raise `InputError` if the training ends before the last stage."""
        if unit == self.unit and 0 < total < self.last:
            raise InputError(
                f"the training ends after {total} {unit}, before the last stage\n"
                f"  stages {self.steps}, one every {self.every} {unit}: the last comes after {self.last}\n"
                "train longer, or give a smaller every="
            )


class InPlace:
    """Prunes a model in place, one stage at a time; optimizers and other objects with its parameters follow.

    Attributes:
        model: The model itself; if the metric of a stage dropped too far, a copy of the model of the stage before.
        stopped: "target" or "max_drop" when the loop has ended, else None.
        history: The original model and each stage, as plain data.
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
        """Prepare before training, or after `trained` steps or epochs if a run continues from a checkpoint.

        `example` returns example inputs if the user passed none. The target is checked here: raises `InputError` and
        `TargetError` as `iterate` does.
        """
        self.model, self.stopped = model, None
        self._inputs = self._inputs if self._inputs is not None else example()
        self._done = min(trained // self.pace.every, self.pace.steps)
        totals = self._stages(model).first.totals
        self._records = [Record(0, (), totals, self._judge.value(model, "the model at first"))]

    def after(self, model: nn.Module, unit: str, count: int, carry: States) -> Stage | None:
        """Cut `model` if a stage is due after `count` steps or epochs, and return the stage."""
        number = self.pace.due(unit, count)
        if number <= self._done or self.stopped or not self._keeps_up(model):
            return None
        self._done = number - 1
        stage = next(self._stages(model), None)
        self._done = number
        if stage is None or stage.number > number:  # nothing to cut yet: the next stage with a cut is not due
            return None
        before = copy.deepcopy(model) if self._judge.may_stop else None
        become_(model, stage.model, carry)
        self.model = model if before is None else before
        self._records.append(Record(stage.number, stage.target, stage.plan.after))
        return stage

    def end(self, model: nn.Module) -> None:
        """Judge the last stage after its training."""
        if not self.stopped and self._keeps_up(model):
            self.model = model
            self.stopped = "target" if self._done == self.pace.steps else None

    def _stages(self, model: nn.Module) -> Iteration:
        home = device_of(model)
        inputs = Call.of(self._inputs).map(lambda tensor: tensor.to(home))
        return iterate(model, inputs, self._target, steps=self.pace.steps, start=self._done, **self._options)

    def _keeps_up(self, model: nn.Module) -> bool:
        """Return whether the newest stage, after its training, is good enough."""
        record, first = self._records[-1], self._records[0]
        if record is not first and record.metric is None and not self._judge.settle(record, first, model):
            self.stopped = "max_drop"
        return record.good

    @property
    def history(self) -> list[dict[str, Any]]:
        return [record.as_dict() for record in self._records]

    @staticmethod
    def plans(model: nn.Module) -> str:
        """Return the plans that cut a model, as a JSON list."""
        return f"[{','.join(plan.to_json() for plan in plans_of(model))}]"


class InPlaceCallback:
    """The options and results that the callbacks of all trainers share.

    `pruning.history` has the stages as plain data. If `metric` drops by more than `max_drop`, training stops, and
    `pruning.model` is the model of the stage before.

    Args:
        target: What remains at the end, as `secateur.plan` takes it.
        example_inputs: The inputs that the model is called with. Default: None, see the callback.
        every: The number of optimizer steps (`unit="epochs"`: epochs) before each stage. Default: 100.
        unit: "steps" or "epochs". Default: "steps".
        steps: The number of stages. Default: 1.
        carry: Further objects that follow to the new parameters, such as your own EMA. Default: ().
        schedule, importance, select, scope, data, loss, recover, calls, outputs, uniform, metric, max_drop,
            higher_is_better, seed: As in `secateur.iterate`.
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
        """Cut `model` and `followers` if a stage is due; return whether training is to stop."""
        self.pruning.after(model, unit, count, [*followers, self._carry])
        return self.pruning.stopped is not None


__all__ = ["InPlace", "InPlaceCallback", "Pace"]
