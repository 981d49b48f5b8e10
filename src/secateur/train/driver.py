"""`prune_and_fit`: the loop of `iterate` with the trainer of `fit`, which can be interrupted and resumed.

Each stage is one `fit` on a smaller model, with the optimizer of the stage before: its momentum follows through the
cut. The learning rate schedule starts again in each stage (a warm restart). Dropout and the order of batches do not
repeat: stage k continues the epoch numbers of the stages before, and has the seed `options.seed + k - 1`.

A checkpoint also stores its stage. To resume, the model is built from the original and the plans in the file, the
training of the stage is finished, and `iterate` makes the remaining stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import nn

from secateur.apply.ready import plans_of
from secateur.base.keywords import by_group
from secateur.data.batches import Source
from secateur.files.model_file import save
from secateur.plan.parts import Totals
from secateur.train.checkpoint import Checkpointing, Checkpoints, Saved
from secateur.train.distill import Distillation
from secateur.train.history import History, Progress, Watch
from secateur.train.iterate import Iteration, Stage, StageOptions
from secateur.train.logs import LogLike, opened_log
from secateur.train.options import TrainOptions
from secateur.train.outcome import Fitted
from secateur.train.randomness import Dice
from secateur.train.schedules import Factory
from secateur.train.stage_verdict import JudgeOptions, Record, StageJudge
from secateur.train.stages import Loop, Penalties, StageTrainer, check_penalties
from secateur.train.start import run
from secateur.train.training import Job
from secateur.train.underway import Keeper

if TYPE_CHECKING:
    from typing_extensions import Unpack


class PaceOptions(StageOptions, total=False):
    """The options for how a model is cut in stages."""

    schedule: str | Factory
    steps: int


class WatchOptions(TypedDict, total=False):
    """The options for checkpoints, logs and progress."""

    checkpoint: Checkpointing | None
    log: LogLike
    progress: Watch | None


class LoopOptions(PaceOptions, JudgeOptions, WatchOptions, total=False):
    """The keyword options of `prune_and_fit`: how a model is cut in stages and judged, checkpoints and logs."""


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
    **more: Unpack[LoopOptions],
) -> Fitted:
    """Prune a copy of `model` to a target in stages, and train each stage; `model` itself does not change.

    Args:
        model: A trained model.
        example_inputs: The inputs that the model is called with; see `secateur.trace`.
        target: What remains at the end; see `secateur.plan`.
        batches: The training data; see `fit`.
        epochs: The number of passes through `batches` in each stage.
        options: How to train; see `fit`. Default: None, `TrainOptions()`.
        penalties: A function from the Graph of a stage's model to a list of penalties. Default: None.
        teacher: A model to distill from, usually `model`, or `Distillation(model, ...)`. Default: None.
        schedule, steps, select: The stages, with the defaults of `secateur.iterate`.
        importance, scope, data, loss, recover, calls, outputs, uniform, seed: How each stage is cut, with the defaults
            of `secateur.prune`.
        metric: A function from a model to a number, called after the training of each stage. Default: None.
        max_drop: If the metric dropped by more than this, the loop ends with the stage before. Default: None.
        higher_is_better: Whether a higher metric is better. Default: True.
        dense: The metric of `model`, if it is known. Default: None, it is measured.
        checkpoint: A `Checkpointing`; after an interruption the same call resumes from its folder, and ends with the
            same weights. Default: None.
        log: "tensorboard", "trackio", or either with a place; see `fit`. Default: None.
        progress: A function of `Progress`, called after every step. Default: None.

    Returns:
        A `Fitted`: the pruned `model`, why the loop `stopped`, and the history of all stages.

    Raises:
        PruningError: As `iterate` and `fit` raise it.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> data = [(torch.eye(2), torch.tensor([0, 1]))] * 5
        >>> fitted = prune_and_fit(net, torch.zeros(1, 2), "channels=0.5", data, epochs=1, steps=2)
        >>> fitted.model[0].out_features, fitted.stopped, fitted.history.steps
        (4, 'target', 10)
    """
    cutting, judged, watching = by_group(prune_and_fit, more, PaceOptions, JudgeOptions, WatchOptions)
    check_penalties(penalties)
    watched = Watched(**watching)
    trainer = StageTrainer(batches, epochs, TrainOptions.of(options), penalties, Distillation.of(teacher))
    loop = Loop(model, example_inputs, target, cutting, trainer, StageJudge(**judged).check())
    return watched.run(loop)


@dataclass(frozen=True)
class Watched:
    """Checkpoints, logs and progress of a loop."""

    checkpoint: Checkpointing | None = None
    log: LogLike = None
    progress: Watch | None = None

    def run(self, loop: Loop) -> Fitted:
        """Run a loop, from its newest checkpoint if it has one."""
        checkpoint = Checkpointing.of(self.checkpoint)
        store = checkpoint.opened(loop.identity()) if checkpoint is not None else None
        saved = store.newest() if store is not None else None
        with opened_log(self.log, loop.about(), saved.step if saved is not None else 0) as opened:

            def watch(now: Progress) -> None:
                step = loop.trainer.before(now.stage) + now.step
                opened.write(step, {"loss": now.loss, "lr": now.lr, "epoch": now.epoch, "stage": now.stage})
                if self.progress is not None:
                    self.progress(now)

            return _Run(loop, watch, store, opened.flush, loop.model).done(saved)


@dataclass
class _Run:
    """A loop that is running. `good`: the last model that was good enough."""

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
        """Run all of it, or the rest after a checkpoint."""
        for number, job, begun in self._stages(saved):
            self.histories.append(self._trained(number, job, begun))
            self._judge(number, job.model)
            if self.stopped is not None:
                break
        assert self.stopped is not None
        plans = plans_of(self.good)[len(plans_of(self.loop.model)) :]
        return Fitted(self.good, self.stopped, tuple(self.records), tuple(self.histories), plans)

    def _stages(self, saved: Saved | None) -> Iterator[tuple[int, Job, Saved | None]]:
        """Yield each stage that is to be trained: its number, its training, and a checkpoint to resume from."""
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
        """Measure the metric of a trained stage, and keep its model if it is good enough."""
        self.dice.start_anew()
        judge = self.loop.judge
        if not judge.settle(self.records[-1], self.records[0], model):
            self.stopped = "max_drop"
            return
        self.good = model
        if judge.may_stop and self.store is not None:
            save(model, self._file(number))

    def _file(self, number: int) -> Path:
        assert self.store is not None
        return self.store.folder / f"stage-{number:03}.safetensors"

    def _state(self, number: int) -> dict[str, Any]:
        parts = {"records": self.records, "histories": self.histories}
        plain = {name: [asdict(part) for part in held] for name, held in parts.items()}
        return {"stage": number, "dice": self.dice.own_state(), **plain}

    def _go_on(self, saved: Saved) -> int:
        """Restore the state of the loop, and return the number of the stage that is in training."""
        state = saved.state["loop"]
        self.dice.put_own(state["dice"])
        self.records = [_record(**record) for record in state["records"]]
        self.histories = [History(**history) for history in state["histories"]]
        before = self.records[-2].number
        if self.loop.judge.may_stop and before:
            self.good = self.loop.rebuilt(self._file(before))
        return state["stage"]


def _record(totals: Mapping[str, Any], **rest: Any) -> Record:
    return Record(totals=Totals.read(**totals), **rest)


__all__ = ["Fitted", "LoopOptions", "prune_and_fit"]
