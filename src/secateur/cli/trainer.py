"""Training from the command line: steps, penalties, a teacher, checkpoints and a log."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Optional

from typer import Option

from secateur.base.progress import bar
from secateur.cli.measuring import MetricReader, unfit
from secateur.cli.options import DataOptions, ModelOptions, TrainingOptions
from secateur.cli.origin import Loaded, origin_of
from secateur.cli.progress import warn
from secateur.errors import InputError, nearest

if TYPE_CHECKING:
    from torch import nn

    from secateur.graph.graph import Graph
    from secateur.train import Checkpointing, Distillation, History, Progress, TrainOptions
    from secateur.train.penalties import Penalty

# Optional[...], since typer evaluates these at run time.
# ruff: noqa: UP045

CHECKPOINTS = ".checkpoints"
"""The folder in --out that holds checkpoints until the run has ended."""


@dataclass(frozen=True)
class TrainerOptions(TrainingOptions):
    """How to train."""

    panel: ClassVar[str] = "Training"

    warmup: Annotated[int, Option(metavar="STEPS", help="Steps over which the learning rate rises from nearly 0.")] = 0
    mixed_precision: Annotated[
        Optional[str], Option(help="no, bf16 or fp16. Default: bf16 on CUDA devices that support it.")
    ] = None
    accumulate: Annotated[int, Option(metavar="BATCHES", help="Batches per step of the optimizer.")] = 1
    clip: Annotated[Optional[float], Option(metavar="NORM", help="Maximum norm of the gradients.")] = None
    penalty: Annotated[
        list[str],
        Option(
            metavar="NAME=STRENGTH", help="Pull units towards zero with scale_l1=1e-4 or group_lasso=1e-4; repeatable."
        ),
    ] = field(default_factory=list)
    distill: Annotated[
        Optional[float],
        Option(
            metavar="SHARE", help="Share of the distillation loss. With prune, the default teacher is the dense model."
        ),
    ] = None
    teacher: Annotated[Optional[str], Option(metavar="MODEL", help="Distill from this model, given like MODEL.")] = None
    temperature: Annotated[float, Option(help="Temperature that softens the logits for --distill.")] = 4.0
    feature: Annotated[
        list[str],
        Option(metavar="MODULE", help="Also match the output of this module to the teacher's; repeatable."),
    ] = field(default_factory=list)


@dataclass(frozen=True)
class KeepingOptions:
    """Checkpoints and logs of a training."""

    panel: ClassVar[str] = "Checkpoints and logs"

    checkpoint_every: Annotated[
        Optional[int],
        Option(min=1, metavar="STEPS", help=f"Write a checkpoint to OUT/{CHECKPOINTS} every so many steps."),
    ] = None
    resume: Annotated[
        bool,
        Option(
            "--resume", help="Continue from the last checkpoint, if any. By default one is written every 100 steps."
        ),
    ] = False
    log: Annotated[
        Optional[str], Option(metavar="KIND", help="tensorboard (in OUT/logs), tensorboard:FOLDER, or trackio.")
    ] = None


@dataclass(frozen=True)
class CommandTrainer:
    """The training of a command. Raises `InputError` for invalid options, before a model is built."""

    training: TrainerOptions
    keeping: KeepingOptions
    data: DataOptions
    epochs: int
    seed: int
    out: Path

    def __post_init__(self) -> None:
        from secateur.train.logs import check_log

        assert self.options
        if not self.epochs:
            self._check_unused()
        penalties_of(self.training.penalty)
        if self.keeping.log is not None:
            check_log(self.keeping.log)

    def _check_unused(self) -> None:
        asked = {**vars(self.training), **vars(self.keeping)}
        for name in ("penalty", "distill", "teacher", "feature", "checkpoint_every", "resume", "log"):
            if asked[name]:
                raise InputError(
                    f"--{name.replace('_', '-')} applies to training, but nothing is trained: add --finetune-epochs"
                )

    @cached_property
    def options(self) -> TrainOptions:
        """The options of each step; a loss of the user is looked up, so that a wrong name is reported early."""
        from secateur.models import load_function
        from secateur.train import Gradients, TrainOptions

        asked = self.training
        if asked.loss is not None:
            load_function(asked.loss)
        return TrainOptions(
            optimizer=asked.optimizer,
            lr=asked.lr,
            weight_decay=asked.weight_decay,
            label_smoothing=asked.label_smoothing,
            loss=asked.loss,
            seed=self.seed,
            mixed_precision=asked.mixed_precision,
            warmup=asked.warmup,
            gradients=Gradients(asked.accumulate, asked.clip),
        )

    @property
    def checkpoint(self) -> Checkpointing | None:
        """Where checkpoints are written, if any."""
        from secateur.train import Checkpointing

        if self.keeping.checkpoint_every is None and not self.keeping.resume:
            return None
        every = self.keeping.checkpoint_every or 100
        return Checkpointing(self._folder, every, about=self._about, going_on=_tell_going_on)

    @property
    def _about(self) -> dict[str, str]:
        """The data options that were given."""
        given = {f"--{name.replace('_', '-')}": value for name, value in vars(self.data).items()}
        return {name: str(value) for name, value in given.items() if value is not None}

    @property
    def log(self) -> str | None:
        """The log to write, and its place."""
        wanted = self.keeping.log
        places = {"tensorboard": f"tensorboard:{self.out / 'logs'}", "trackio": f"trackio:secateur/{self.out.name}"}
        return places.get(wanted, wanted) if wanted is not None else None

    @property
    def _folder(self) -> Path:
        return self.out / CHECKPOINTS

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Wrap the whole command: check for old checkpoints first, and delete all once the result is written."""
        if self.checkpoint is not None:
            self._check_leftovers()
        try:
            yield
        except KeyboardInterrupt:
            self._tell_interrupted()
            raise
        if self.checkpoint is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _check_leftovers(self) -> None:
        from secateur.train.checkpoint import steps_in

        done = steps_in(self._folder)
        if done and not self.keeping.resume:
            raise InputError(
                f"--out {self.out} holds checkpoints of a run that did not end, the last after step {max(done)}\n"
                f"add --resume to continue it, or delete {self._folder} to start over"
            )
        for left in self.out.glob(".secateur-*") if self.keeping.resume else ():  # staging folders of a killed run
            shutil.rmtree(left, ignore_errors=True)

    def _tell_interrupted(self) -> None:
        from secateur.train.checkpoint import steps_in

        done = steps_in(self._folder)
        going_on = f"the same command with --resume continues after step {max(done)}" if done else "nothing was written"
        warn(f"interrupted; {going_on}")

    def teacher(self, dense: Loaded, own: nn.Module | None = None) -> Distillation | None:
        """Return the teacher, if any; `own`: the model to prune. Raises `InputError` if a teacher is missing."""
        from secateur.train import Distillation

        asked = self.training
        if asked.distill is None and asked.teacher is None:
            if asked.feature:
                raise InputError("--feature needs a teacher: add --distill 0.5, or --teacher MODEL")
            return None
        if asked.teacher is not None:
            own = origin_of(ModelOptions(asked.teacher), self.seed).load().to(dense.device)
        if own is None:
            raise InputError("--distill needs a teacher: add --teacher MODEL, such as the folder of a run")
        return Distillation(own, 0.5 if asked.distill is None else asked.distill, asked.temperature, asked.feature)

    def penalties(self, graph: Graph) -> list[Penalty]:
        """Return the penalties on the units of a graph."""
        return [make(graph) for make in penalties_of(self.training.penalty)]

    def fit(
        self, dense: Loaded, model: nn.Module, judge: MetricReader, what: str, own: nn.Module | None = None
    ) -> History:
        """Train a model that takes the inputs of `dense`, with a progress bar."""
        from secateur.trace.tracing import trace
        from secateur.train import fit

        pulls = self.penalties(trace(model, dense.inputs)) if self.training.penalty else ()
        with self.watched(what, judge) as progress:
            return fit(
                model,
                judge.data.train,
                epochs=self.epochs,
                options=self.options,
                penalties=pulls,
                teacher=self.teacher(dense, own),
                checkpoint=self.checkpoint,
                log=self.log,
                progress=progress,
            )

    @contextlib.contextmanager
    def watched(self, what: str, judge: MetricReader, stages: int = 1) -> Iterator[Callable[[Progress], None]]:
        """Show a progress bar for a training. Raises `InputError` if the loss does not accept the model's output."""
        per_stage = self.epochs * -(-len(judge.data.train) // self.options.gradients.accumulate)
        with (
            bar(what, stages * per_stage) as advance,
            unfit("the model cannot be trained on this data", "--data, --batch-size and --loss"),
        ):
            yield lambda now: advance(_beside(now, self.epochs), (now.stage - 1) * per_stage + now.step)


def _tell_going_on(step: int) -> None:
    warn(f"continuing after step {step}")


def _beside(now: Progress, epochs: int) -> str:
    stage = f"stage {now.stage}/{now.stages}, " if now.stages > 1 else ""
    return f"{stage}epoch {now.epoch}/{epochs}, loss {now.loss:.3f}"


def penalties_of(texts: Sequence[str]) -> list[Callable[[Graph], Any]]:
    """Return `NAME=STRENGTH` strings as functions from a Graph to a penalty.

    >>> len(penalties_of(["scale_l1=1e-4"]))
    1
    """
    return [_penalty_of(text) for text in texts]


def _penalty_of(text: str) -> Callable[[Graph], Any]:
    from secateur.train.penalties import PENALTIES

    name, _, number = text.partition("=")
    name = name.replace("-", "_")
    if name not in PENALTIES:
        raise InputError(f"no penalty {name!r}; known: {', '.join(PENALTIES)}{nearest(name, PENALTIES)}")
    try:
        strength = float(number)
    except ValueError:
        raise InputError(f"--penalty {text!r}: {number!r} is not a number; write --penalty {name}=1e-4") from None
    kind: Any = PENALTIES[name]
    return lambda graph: kind(graph, strength)
