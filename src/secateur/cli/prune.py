"""`secateur prune`: trace, plan, cut, fine-tune, save, and say what it brought."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from secateur.cli.calibration import (
    Calibration,
    CalibrationOptions,
    RecoveryOptions,
    check_calibration,
    open_calibration,
)
from secateur.cli.command import CheckFailed, Result
from secateur.cli.inspect import traced
from secateur.cli.measuring import Judge, open_judge, train_options, train_with_bar
from secateur.cli.options import OUT, SEED, CutOptions, DataOptions, ModelOptions, TrainingOptions
from secateur.cli.origin import LIBRARIES, Loaded, Origin, loaded, origin_of
from secateur.cli.plan import planned
from secateur.cli.progress import warn, watched, working
from secateur.cli.runs import DENSE, MODEL, Original, staged
from secateur.cli.saving import describe, save_checked, write_run
from secateur.cli.searching import DropOptions, check_drop, searched
from secateur.cli.train import as_history, needed, told
from secateur.cli.verify import why_failed

if TYPE_CHECKING:
    from torch import nn

    from secateur.count import Count
    from secateur.plan import Plan
    from secateur.pruning import Pruned
    from secateur.report import Report, Scores
    from secateur.train import History, TrainOptions


def prune(
    source: ModelOptions,
    cutting: CutOptions,
    drop: DropOptions,
    data: DataOptions,
    reading: CalibrationOptions,
    recovery: RecoveryOptions,
    training: TrainingOptions,
    out: OUT,
    verify: Annotated[bool, Option("--verify", help="Prove the cut in float64 before going on.")] = False,
    finetune_epochs: Annotated[int, Option(min=0, help="Passes through the training data after the cut.")] = 0,
    seed: SEED = 0,
) -> Result:
    """Cut a model down to a target, and save what remains.

    secateur prune torchvision:resnet18 --weights w.safetensors --target macs=0.5 --verify --out run/small
    """
    from secateur.probing import Found

    check_drop(cutting, drop)
    origin = origin_of(source, seed)
    with staged(out, origin.weights) as folder:
        tuning = Tuning(train_options(training, seed), finetune_epochs)
        judge = open_judge(data, seed, origin.input)
        judge = needed(judge) if finetune_epochs else judge
        check_calibration(reading, cutting.importance, judge is not None, recovery.recover)
        _warn_of_chance(origin)
        dense = loaded(origin, origin.load(), source, judge.example() if judge else None)
        calibration = open_calibration(reading, judge, training.loss, seed, recovery.recover)
        result = _pruned(dense, Asked(cutting, drop, judge, calibration, seed), verify)
        counts = _counted(dense, result.model, result.plan)
        tuned = _tuned(dense, result.model, judge, tuning)
        report = _measured(dense, result.model, counts, folder, tuned.scores)
        document = {
            **describe(dense, "prune"),
            "original": _kept_original(origin, folder),
            "plan": json.loads(result.plan.to_json()),
            "cut": result.report,
            "search": result.as_dict() if isinstance(result, Found) else None,
            "report": report.as_dict(),
            "metrics": asdict(tuned.scores) if tuned.scores else None,
            "history": tuned.as_dict(),
        }
        write_run(folder, document)
        return Result({"out": str(out), **document}, _text(result, tuned, report, out))


def _warn_of_chance(origin: Origin) -> None:
    if origin.weights is None and origin.spec.partition(":")[0] in LIBRARIES:
        warn(f"no --weights are given, so those of {origin.spec} are random")


@dataclass(frozen=True)
class Asked:
    """What to cut: to a target, or until it costs too much."""

    cutting: CutOptions
    drop: DropOptions
    judge: Judge | None
    calibration: Calibration
    seed: int

    def made(self, dense: Loaded) -> Pruned:
        from secateur.apply import cut
        from secateur.pruning import Pruned, recovered

        if self.drop.max_drop is not None:
            return searched(dense, self.cutting, self.drop, self.judge, self.calibration, self.seed)
        graph = traced(dense)
        statistics = self.calibration.read(graph, self.cutting.importance, self.seed)
        plan = planned(graph, self.cutting, statistics, self.seed)
        with working("cutting"):
            found = Pruned(cut(dense.model, plan).eval(), plan, graph)
        with working("recovering"):
            return recovered(found, self.calibration.batches, self.calibration.recover, statistics, seed=self.seed)


def _pruned(dense: Loaded, asked: Asked, verify: bool) -> Pruned:
    from secateur.verify import verify as prove

    result = asked.made(dense)
    if not verify:
        return result
    with working("verifying in float64"):
        verification = prove(dense.model, result.model, result.plan, dense.inputs)
    if not verification.passed:
        raise CheckFailed(f"{why_failed(verification)}\n{verification}\nnothing was written")
    return replace(result, verification=verification)


def _counted(dense: Loaded, small: nn.Module, plan: Plan) -> tuple[Count, Count]:
    """Both models as they are, not as the plan predicts. Raises `CheckFailed` where a target is missed."""
    from secateur.budget import parse_targets
    from secateur.count import count

    with working("counting"):
        before, after = count(dense.model, dense.inputs), count(small, dense.inputs)
    for target in parse_targets(plan.target):
        have, had = getattr(after, target.kind, 0), getattr(before, target.kind, 0)
        if target.kind != "channels" and have > target.limit(had):
            raise CheckFailed(f"the target {target} is missed: {have:,} remain of {had:,}\nnothing was written")
    predicted = (plan.before.params, plan.before.macs, plan.after.params, plan.after.macs)
    if predicted != (before.params, before.macs, after.params, after.macs):
        warn(f"the plan predicts {plan.after}, but {after.params:,} parameters and {after.macs:,} MACs were counted")
    return before, after


@dataclass(frozen=True)
class Tuning:
    """How to fine-tune, and how long; then what came of it."""

    options: TrainOptions
    epochs: int
    history: History | None = None
    scores: Scores | None = None

    def as_dict(self) -> dict[str, Any] | None:
        """Fine-tuning as run.json remembers it."""
        if self.history is None:
            return None
        return {**as_history(self.history, self.epochs), "options": asdict(self.options)}


def _tuned(dense: Loaded, small: nn.Module, judge: Judge | None, tuning: Tuning) -> Tuning:
    """Judge before and after the cut, fine-tune, and judge again."""
    from secateur.report import Scores

    if judge is None:
        return tuning
    judge.rehearse(dense.model)
    scores = Scores(judge.name, judge.score(dense.model, "before"), judge.score(small, "after the cut"))
    if not tuning.epochs:
        return replace(tuning, scores=scores)
    history = train_with_bar(small, judge, tuning.epochs, tuning.options, "fine-tuning")
    scores = replace(scores, after_finetuning=judge.score(small, "after fine-tuning"))
    return replace(tuning, history=history, scores=scores)


def _measured(
    dense: Loaded, small: nn.Module, counts: tuple[Count, Count], folder: Path, scores: Scores | None
) -> Report:
    """Save both models, and measure them in turn."""
    from secateur.io import save
    from secateur.report import Measured, Report, timings

    pruned_bytes = save_checked(small, dense, folder)
    save(dense.model, folder / DENSE)
    old, new = timings([dense.model, small], dense.inputs, watch=lambda r: watched("latency", r, len(r)))
    before, after = counts
    return Report(
        Measured(before.params, before.macs, (folder / DENSE).stat().st_size, old),
        Measured(after.params, after.macs, pruned_bytes, new),
        batch=dense.inputs[0].shape[0] if dense.inputs[0].dim() else 1,
        scores=scores,
    )


def _kept_original(origin: Origin, folder: Path) -> dict[str, str]:
    """Where the weights before the cut are found again: in their own file, or kept here if they came from none."""
    if origin.weights is None:
        return {"path": DENSE, "sha256": Original.of(folder / DENSE).sha256}
    (folder / DENSE).unlink()
    return {"path": str(origin.weights), "sha256": Original.of(origin.weights).sha256}


def _text(result: Pruned, tuned: Tuning, report: Report, out: Path) -> str:
    parts = [str(result)]
    if tuned.history is not None:
        parts.append(f"fine-tuning: {told(tuned.history, tuned.epochs)}")
    parts.append(f"saved {out / MODEL}; a freshly built model that loads it gives identical outputs")
    return "\n\n".join([*parts, str(report)])
