"""Cut a little, train, and again: the loop of `iterate` with our own trainer, which can be killed at any moment.

Each stage is one `fit` on a smaller model, with the optimizer of the stage before: its momentum follows through the
cut. The rates start anew in each stage (a warm restart), dropout and the order of batches go on: stage k counts its
epochs on from those before, and has the seed `options.seed + k - 1`.

A checkpoint also knows its stage. Going on, the model is built from the original and the plans in the file, the stage
is ended, and `iterate` makes those that follow, as it would have.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from secateur.apply.surgery import plans_of
from secateur.data.batches import Source
from secateur.fingerprint import digest
from secateur.graph import Graph
from secateur.io import load, save
from secateur.masks import masks_of
from secateur.masks.wearing import worn
from secateur.plan import Plan, Totals
from secateur.probing.metric import Metric
from secateur.text import columns
from secateur.trace import trace
from secateur.train.checkpoint import Checkpointing, Checkpoints, Saved
from secateur.train.distill import Distillation
from secateur.train.identity import of_code
from secateur.train.iterate import Iteration, iterate
from secateur.train.judge import Judge, Record
from secateur.train.logs import LogLike, opened_log
from secateur.train.options import TrainOptions
from secateur.train.stepping import Penalty
from secateur.train.training import History, Job, Keeper, Progress, Watch, epoch_from

Penalties: TypeAlias = Callable[[Graph], Sequence[Penalty]]
"""From the Graph of a stage's model to what pulls while it is trained."""


@dataclass(frozen=True)
class Fitted:
    """What the loop came to; `print` shows its stages as a table.

    `model` is the last good one, `stopped` is why it is the last: "target", "max_drop" or "steps". `stages` has a
    record of the model at first and of each stage, `histories` the training of each stage.
    """

    model: nn.Module
    stopped: str
    stages: tuple[Record, ...]
    histories: tuple[History, ...]
    plans: tuple[Plan, ...]

    @property
    def plan(self) -> Plan | None:
        """From the model at first to this one, as one plan; None where no stage was good enough."""
        return functools.reduce(Plan.then, self.plans) if self.plans else None

    @property
    def history(self) -> History:
        """The training of all stages, one after the other."""
        parts = self.histories
        losses = tuple(loss for part in parts for loss in part.losses)
        return History(losses, sum(part.steps for part in parts), sum(part.seconds for part in parts))

    def __str__(self) -> str:
        judged = any(record.metric is not None for record in self.stages)
        head = ("stage", "target", "params", "", "MACs", "", *(("metric", "drop", "") if judged else ()))
        rows = [record.row(self.stages[0].totals, judged=judged) for record in self.stages]
        return "\n".join([*columns([head, *rows], right=range(2, 8)), f"ended: {ENDS[self.stopped]}"])


ENDS = {
    "target": "the target is met",
    "max_drop": "the last stage lost too much; the model is that of the stage before",
    "steps": "its steps are done, before the schedule is at its end",
}


def prune_and_fit(
    model: nn.Module,
    example_inputs: Any,
    target: str | Sequence[str] | None,
    batches: Source,
    *,
    epochs: int,
    options: TrainOptions | None = None,
    penalties: Penalties | None = None,
    teacher: nn.Module | Distillation | None = None,
    metric: Metric | None = None,
    max_drop: float | None = None,
    higher_is_better: bool = True,
    checkpoint: Checkpointing | None = None,
    log: LogLike = None,
    progress: Watch | None = None,
    **cutting: Any,
) -> Fitted:
    """Prune a copy of `model` to a target in stages, each trained on `epochs` passes; `model` itself stays whole.

    How it is cut (`schedule`, `steps`, `importance`, `select`, `scope`, `recover`, `data`, ...) is that of `iterate`;
    how each stage is trained is that of `fit`. penalties: a function from the Graph of a stage's model to what
    pulls it. teacher: most often `model`. metric: a function from a model to a number; where it dropped by more than
    `max_drop` after the training of a stage, the loop ends with the stage before. checkpoint: in its folder, the same
    call goes on where it was killed, and comes to the same weights.

    Raises what `iterate` and `fit` raise.

    >>> net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> data = [(torch.eye(2), torch.tensor([0, 1]))] * 5
    >>> fitted = prune_and_fit(net, torch.zeros(1, 2), "channels=0.5", data, epochs=1, steps=2)
    >>> fitted.model[0].out_features, fitted.stopped, fitted.history.steps
    (4, 'target', 10)
    """
    trainer = _Trainer(batches, epochs, options or TrainOptions(), penalties, Distillation.of(teacher))
    judge = Judge(metric, max_drop, higher_is_better).check()
    loop = _Loop(model, example_inputs, target, cutting, trainer, judge)
    store = checkpoint.opened(loop.identity()) if checkpoint is not None else None
    saved = store.newest() if store is not None else None
    with opened_log(log, loop.about(), saved.step if saved is not None else 0) as opened:

        def watch(now: Progress) -> None:
            step = trainer.before(now.stage) + now.step
            opened.write(step, {"loss": now.loss, "lr": now.lr, "epoch": now.epoch, "stage": now.stage})
            if progress is not None:
                progress(now)

        return _Run(loop, watch, store, opened.flush, model).done(saved)


@dataclass(frozen=True)
class _Trainer:
    """How each stage is trained."""

    batches: Source
    epochs: int
    options: TrainOptions
    penalties: Penalties | None
    teaching: Distillation | None

    def job(self, model: nn.Module, stage: int = 1, **more: Any) -> Job:
        """The training of a stage."""
        options = replace(self.options, seed=(self.options.seed + stage - 1) % 2**32)
        source = _Later.of(self.batches, self.epochs * (stage - 1))
        return Job(model, source, self.epochs, options, teaching=self.teaching, **more)

    def before(self, stage: int) -> int:
        """The steps of the optimizer before a stage."""
        return (stage - 1) * self.epochs * -(-len(self.batches) // self.options.gradients.accumulate)


@dataclass(frozen=True)
class _Loop:
    """What is cut, how, and when it ends."""

    model: nn.Module
    example_inputs: Any
    target: Any
    cutting: Mapping[str, Any]
    trainer: _Trainer
    judge: Judge

    @property
    def steps(self) -> int:
        return self.cutting.get("steps", 1)

    def identity(self) -> dict[str, str]:
        """What tells this loop from others."""
        how = {name: _text(value) for name, value in sorted(self.cutting.items()) if name not in ("data", "calls")}
        end = [_text(self.judge.metric), self.judge.max_drop, self.judge.higher_is_better]
        return {
            **self.trainer.job(self.model).identity(),
            "penalties": _text(self.trainer.penalties),
            "target": str(self.target),
            "cutting": digest(str(how)),
            "metric": digest(str(end)),
        }

    def about(self) -> dict[str, Any]:
        """What a log says of this loop."""
        return {**self.trainer.job(self.model).about(), "target": str(self.target), "stages": self.steps}

    def iterate(self, model: nn.Module, optimizer: torch.optim.Optimizer, start: int) -> Iteration:
        """The stages after stage `start`, whose model this is."""
        return iterate(model, self.example_inputs, self.target, carry=[optimizer], start=start, **self.cutting)

    def penalties(self, model: nn.Module) -> tuple[Penalty, ...]:
        """What pulls while a model is trained."""
        if self.trainer.penalties is None:
            return ()
        calls, outputs = self.cutting.get("calls", ()), self.cutting.get("outputs")
        return tuple(self.trainer.penalties(trace(model, self.example_inputs, calls=calls, outputs=outputs)))

    def rebuilt(self, path: Path) -> nn.Module:
        """The model that was saved at a path, made from the original; its masks are in the file."""
        fresh = copy.deepcopy(self.model)
        if worn(fresh):
            masks_of(fresh).remove()
        return load(fresh, path)


@dataclass
class _Run:
    """The loop under way. `good`: the last model that was good enough."""

    loop: _Loop
    watch: Watch
    store: Checkpoints | None
    flush: Callable[[], None]
    good: nn.Module
    records: list[Record] = field(default_factory=list)
    histories: list[History] = field(default_factory=list)
    stopped: str | None = None

    def done(self, saved: Saved | None) -> Fitted:
        """All of it, or what is left after a checkpoint."""
        for number, job, begun in self._stages(saved):
            self.histories.append(self._trained(number, job, begun))
            self._judge(number, job.model)
            if self.stopped is not None:
                break
        assert self.stopped is not None
        plans = plans_of(self.good)[len(plans_of(self.loop.model)) :]
        return Fitted(self.good, self.stopped, tuple(self.records), tuple(self.histories), plans)

    def _stages(self, saved: Saved | None) -> Iterator[tuple[int, Job, Saved | None]]:
        """Each stage that is to be trained: its number, its training, and how far that has come."""
        loop, start = self.loop, 0
        model = loop.model if saved is None else loop.rebuilt(saved.model)
        optimizer = loop.trainer.options.make_optimizer(model)
        if saved is not None:
            start = self._go_on(saved)
            yield start, self._job(model, start, optimizer), saved
        iteration = loop.iterate(model, optimizer, start)
        if not self.records:
            self.records.append(_first(iteration, loop.judge.value(model, "the model at first")))
        for stage in iteration:
            self.records.append(Record(stage.number, stage.target, stage.plan.after))
            yield stage.number, self._job(stage.model, stage.number, optimizer), None
        self.stopped = iteration.stopped

    def _job(self, model: nn.Module, number: int, optimizer: torch.optim.Optimizer) -> Job:
        return self.loop.trainer.job(model, number, penalties=self.loop.penalties(model), optimizer=optimizer)

    def _trained(self, number: int, job: Job, begun: Saved | None) -> History:
        def watch(now: Progress) -> None:
            self.watch(replace(now, stage=number, stages=self.loop.steps))

        keeper = None
        if self.store is not None:
            keeper = Keeper(self.store, self.flush, self.loop.trainer.before(number), {"loop": self._state(number)})
        return job.run(watch, keeper, begun)

    def _judge(self, number: int, model: nn.Module) -> None:
        """Measure what was trained, and keep it where it is good enough."""
        judge, record = self.loop.judge, self.records[-1]
        record.metric = judge.value(model, f"stage {number}")
        record.drop = judge.drop(self.records[0].metric, record.metric)
        record.good = judge.allows(record.drop)
        if not record.good:
            self.stopped = "max_drop"
            return
        self.good = model
        if judge.may_stop and self.store is not None:
            save(model, self._file(number))

    # --- checkpoints: what the loop adds to those of a training ---

    def _file(self, number: int) -> Path:
        assert self.store is not None
        return self.store.folder / f"stage-{number:03}.safetensors"

    def _state(self, number: int) -> dict[str, Any]:
        parts = {"records": self.records, "histories": self.histories}
        return {"stage": number, **{name: [asdict(part) for part in held] for name, held in parts.items()}}

    def _go_on(self, saved: Saved) -> int:
        """Put the loop back to where it was; the number of the stage that is open."""
        state = saved.state["loop"]
        self.records = [_record(**record) for record in state["records"]]
        self.histories = [History(**history) for history in state["histories"]]
        before = self.records[-2].number
        if self.loop.judge.may_stop and before:
            self.good = self.loop.rebuilt(self._file(before))
        return state["stage"]


def _first(iteration: Iteration, metric: float | None) -> Record:
    known = iteration.history[0]
    return Record(0, (), Totals(**{part.name: known[part.name] for part in fields(Totals)}), metric)


def _record(totals: Mapping[str, Any], **rest: Any) -> Record:
    return Record(totals=Totals(**totals), **rest)


@dataclass(frozen=True)
class _Later:
    """The same batches, whose epochs are counted on from `before`."""

    batches: Any
    before: int

    @staticmethod
    def of(batches: Source, before: int) -> Source:
        """`batches` themselves where they do not ask for the number of the epoch."""
        return _Later(batches, before) if callable(getattr(batches, "epoch", None)) else batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        return epoch_from(self.batches, number + self.before, start)


def _text(value: Any) -> str:
    """What tells an argument from others, in any process."""
    return of_code(value) if callable(value) else str(value)


__all__ = ["Fitted", "prune_and_fit"]
