"""Cut a little, train, and again: the loop of `iterate` with our own trainer, which can be killed at any moment.

Each stage is one `fit` on a smaller model, with the optimizer of the stage before: its momentum follows through the
cut. The rates start anew in each stage (a warm restart), dropout and the order of batches go on: stage k counts its
epochs on from those before, and has the seed `options.seed + k - 1`.

A checkpoint also knows its stage. Going on, the model is built from the original and the plans in the file, the stage
is ended, and `iterate` makes those that follow, as it would have.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.apply.ready import plans_of
from secateur.data.batches import Source
from secateur.files.model_file import save
from secateur.plan.parts import Totals
from secateur.probing.metric import Metric
from secateur.train.checked_options import check_options
from secateur.train.checkpoint import Checkpointing, Checkpoints, Saved
from secateur.train.distill import Distillation
from secateur.train.history import History, Progress, Watch
from secateur.train.iterate import Iteration, Stage
from secateur.train.logs import LogLike, opened_log
from secateur.train.options import TrainOptions
from secateur.train.outcome import Fitted
from secateur.train.randomness import Dice
from secateur.train.stage_verdict import Record, StageJudge
from secateur.train.stages import Loop, Penalties, StageTrainer, check_penalties
from secateur.train.start import run
from secateur.train.training import Job
from secateur.train.underway import Keeper

SET_HERE = ("model", "example_inputs", "target", "carry", "start")
"""Options of `iterate` that follow by themselves."""


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
    dense: float | None = None,
    checkpoint: Checkpointing | None = None,
    log: LogLike = None,
    progress: Watch | None = None,
    **cutting: Any,
) -> Fitted:
    """Prune a copy of `model` to a target in stages, each trained on `epochs` passes; `model` itself stays whole.

    How it is cut (`schedule`, `steps`, `importance`, `select`, `scope`, `recover`, `data`, ...) is that of `iterate`;
    how each stage is trained is that of `fit`. penalties: a function from the Graph of a stage's model to what
    pulls it. teacher: most often `model`. metric: a function from a model to a number; where it dropped by more than
    `max_drop` after the training of a stage, the loop ends with the stage before. dense: what it says of `model`, where
    that is known. checkpoint: in its folder, the same call goes on where it was killed, and comes to the same weights.

    Raises what `iterate` and `fit` raise.

    >>> net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> data = [(torch.eye(2), torch.tensor([0, 1]))] * 5
    >>> fitted = prune_and_fit(net, torch.zeros(1, 2), "channels=0.5", data, epochs=1, steps=2)
    >>> fitted.model[0].out_features, fitted.stopped, fitted.history.steps
    (4, 'target', 10)
    """
    check_options(cutting, SET_HERE, OWN)
    check_penalties(penalties)
    checkpoint = Checkpointing.of(checkpoint)
    trainer = StageTrainer(batches, epochs, TrainOptions.of(options), penalties, Distillation.of(teacher))
    judge = StageJudge(metric, max_drop, higher_is_better, dense).check()
    loop = Loop(model, example_inputs, target, cutting, trainer, judge)
    store = checkpoint.opened(loop.identity()) if checkpoint is not None else None
    saved = store.newest() if store is not None else None
    with opened_log(log, loop.about(), saved.step if saved is not None else 0) as opened:

        def watch(now: Progress) -> None:
            step = trainer.before(now.stage) + now.step
            opened.write(step, {"loss": now.loss, "lr": now.lr, "epoch": now.epoch, "stage": now.stage})
            if progress is not None:
                progress(now)

        return _Run(loop, watch, store, opened.flush, model).done(saved)


OWN = tuple(name for name, one in inspect.signature(prune_and_fit).parameters.items() if one.kind is one.KEYWORD_ONLY)


@dataclass
class _Run:
    """The loop under way. `good`: the last model that was good enough."""

    loop: Loop
    watch: Watch
    store: Checkpoints | None
    flush: Callable[[], None]
    good: nn.Module
    records: list[Record] = field(default_factory=list)
    histories: list[History] = field(default_factory=list)
    stopped: str | None = None
    dice: Dice = field(init=False)

    def __post_init__(self) -> None:
        self.dice = self.loop.dice()

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
            self.records.append(self._first(iteration))
        while (stage := self._next(iteration)) is not None:
            self.records.append(Record(stage.number, stage.target, stage.plan.after))
            yield stage.number, self._job(stage.model, stage.number, optimizer), None
        self.stopped = iteration.stopped

    def _first(self, iteration: Iteration) -> Record:
        self.dice.start_anew()
        judge = self.loop.judge
        metric = judge.dense if judge.dense is not None else judge.value(iteration.model, "the model at first")
        return Record(0, (), iteration.first.totals, metric)

    def _next(self, iteration: Iteration) -> Stage | None:
        self.dice.start_anew()
        return next(iteration, None)

    def _job(self, model: nn.Module, number: int, optimizer: torch.optim.Optimizer) -> Job:
        return self.loop.trainer.job(model, number, penalties=self.loop.penalties(model), optimizer=optimizer)

    def _trained(self, number: int, job: Job, begun: Saved | None) -> History:
        def watch(now: Progress) -> None:
            self.watch(replace(now, stage=number, stages=self.loop.steps))

        keeper = None
        if self.store is not None:
            keeper = Keeper(self.store, self.flush, self.loop.trainer.before(number), {"loop": self._state(number)})
        return run(job, watch, keeper, begun)

    def _judge(self, number: int, model: nn.Module) -> None:
        """Measure what was trained, and keep it where it is good enough."""
        self.dice.start_anew()
        judge = self.loop.judge
        if not judge.settle(self.records[-1], self.records[0], model):
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
        plain = {name: [asdict(part) for part in held] for name, held in parts.items()}
        return {"stage": number, "dice": self.dice.own_state(), **plain}

    def _go_on(self, saved: Saved) -> int:
        """Put the loop back to where it was; the number of the stage that is open."""
        state = saved.state["loop"]
        self.dice.put_own(state["dice"])
        self.records = [_record(**record) for record in state["records"]]
        self.histories = [History(**history) for history in state["histories"]]
        before = self.records[-2].number
        if self.loop.judge.may_stop and before:
            self.good = self.loop.rebuilt(self._file(before))
        return state["stage"]


def _record(totals: Mapping[str, Any], **rest: Any) -> Record:
    return Record(totals=Totals(**totals), **rest)


__all__ = ["Fitted", "prune_and_fit"]
