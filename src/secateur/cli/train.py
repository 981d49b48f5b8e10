"""`secateur train`: a plain training loop, from random or given weights."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from secateur.cli.command import CommandResult
from secateur.cli.measuring import MetricReader, open_judge
from secateur.cli.options import OUT, SEED, DataOptions, ModelOptions
from secateur.cli.origin import loaded, origin_of
from secateur.cli.runs import MODEL, staged
from secateur.cli.saving import describe, save_checked, write_run
from secateur.cli.trainer import CommandTrainer, KeepingOptions, TrainerOptions
from secateur.errors import InputError

if TYPE_CHECKING:
    from secateur.train import History


def train(
    source: ModelOptions,
    data: DataOptions,
    training: TrainerOptions,
    keeping: KeepingOptions,
    out: OUT,
    epochs: Annotated[int, Option(min=1, help="Passes through the training data.")] = 1,
    seed: SEED = 0,
) -> CommandResult:
    """Train a model, from random weights or those of --weights.

    secateur train examples/mnist_net.py:build --data mnist --epochs 1 --out run/dense
    """
    trainer = CommandTrainer(training, keeping, data, epochs, seed, out)
    origin = origin_of(source, seed)
    with trainer.kept(), staged(out, origin.weights) as folder:
        judge = needed(open_judge(data, seed, origin.input))
        opened = loaded(origin, origin.load(), source, judge.example())
        judge.rehearse(opened.model)
        history = trainer.fit(opened, opened.model, judge, "training")
        score = judge.score(opened.model, "after training")
        save_checked(opened.model, opened, folder)
        document = {
            **describe(opened, "train"),
            "history": {**as_history(history, epochs), "data": data.data, "batch_size": data.batch_size},
            "metrics": {"metric": judge.name, "after_training": score},
        }
        write_run(folder, document)
        text = f"{told(history, epochs)}\n{shown(judge, score)}\nsaved {out / MODEL}"
        return CommandResult({"out": str(out), **document}, text)


def needed(judge: MetricReader | None) -> MetricReader:
    """Return the judge. Raises `InputError` if there is none, since training needs data."""
    if judge is None:
        raise InputError("training needs data: add --data mnist, a folder of images, or file.py:function")
    return judge


def as_history(history: History, epochs: int) -> dict[str, Any]:
    """Return the training as run.json stores it."""
    return {"epochs": epochs, **asdict(history)}


def told(history: History, epochs: int) -> str:
    """Return the training in one line."""
    losses = " -> ".join(f"{loss:.3f}" for loss in history.losses[-3:])
    many = "epoch" if epochs == 1 else "epochs"
    return f"trained {epochs} {many} ({history.steps:,} steps) in {history.seconds:.1f} s, mean loss {losses}"


def shown(judge: MetricReader, score: float) -> str:
    """Return a score in one line."""
    from secateur.report import MetricScores

    return f"{judge.name} {MetricScores(judge.name, score, score).show(score)} on the test data"
