"""`secateur prune`: trace, plan, cut, fine-tune, save and report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from secateur.base.progress import watched
from secateur.cli.calibration import CalibrationOptions, RecoveryOptions, check_calibration, open_calibration
from secateur.cli.command import CheckFailed, CommandResult
from secateur.cli.cut_and_train import LoopOptions, looped, reached
from secateur.cli.fine_tune import Tuning, tuned
from secateur.cli.measuring import open_judge
from secateur.cli.options import OUT, SEED, CutOptions, DataOptions, ModelOptions
from secateur.cli.origin import LIBRARIES, Loaded, ModelOrigin, loaded, origin_of
from secateur.cli.progress import warn, working
from secateur.cli.request import Request
from secateur.cli.runs import DENSE, MODEL, PRETRAINED, Original, staged
from secateur.cli.saving import describe, save_checked, write_run
from secateur.cli.searching import DropOptions, check_drop
from secateur.cli.train import needed
from secateur.cli.trainer import CommandTrainer, KeepingOptions, TrainerOptions
from secateur.errors import TargetError

if TYPE_CHECKING:
    from torch import nn

    from secateur.cost.count import Count
    from secateur.plan.plan import Plan
    from secateur.pruning import Pruned
    from secateur.report import MetricScores, Report


def prune(
    source: ModelOptions,
    cutting: CutOptions,
    drop: DropOptions,
    data: DataOptions,
    reading: CalibrationOptions,
    recovery: RecoveryOptions,
    loop: LoopOptions,
    training: TrainerOptions,
    keeping: KeepingOptions,
    out: OUT,
    verify: Annotated[
        bool | None,
        Option("--verify/--no-verify", help="Verify the cut in float64 before continuing. Default: if that is cheap."),
    ] = None,
    finetune_epochs: Annotated[
        int, Option(min=0, help="Passes through the training data after the cut, or after each with --steps.")
    ] = 0,
    seed: SEED = 0,
) -> CommandResult:
    """Cut a model down to a target and save the result.

    secateur prune torchvision:resnet18 --weights w.safetensors --target macs=0.5 --verify --out run/small
    """
    from secateur.files.pretrained import save_folder

    if loop.wanted:
        loop.check(cutting, drop, finetune_epochs)
    else:
        check_drop(cutting, drop)
    trainer = CommandTrainer(training, keeping, data, finetune_epochs, seed, out)
    origin = origin_of(source, seed)
    with trainer.kept(), staged(out, origin.weights) as folder:
        judge = open_judge(data, seed, origin.input)
        judge = needed(judge) if finetune_epochs else judge
        check_calibration(reading, cutting.importance, judge is not None, recovery.recover)
        _warn_of_chance(origin)
        dense = loaded(origin, origin.load(), source, judge.example() if judge else None)
        calibration = open_calibration(reading, judge, training.loss, seed, recovery.recover)
        asked, tuning = Request(cutting, drop, judge, calibration, seed), Tuning(trainer)
        if loop.wanted:
            result, tuning = looped(dense, asked, tuning, loop, verify=verify)
            counts = _counted(dense, result.model, result.plan, reached(dense, result.plan, cutting))
        else:
            result = asked.pruned(dense, verify=verify)
            _check_cut(result.plan, finetune_epochs)
            counts = _counted(dense, result.model, result.plan, result.plan.target)
            tuning = tuned(dense, result.model, judge, tuning)
        report = _measured(dense, result.model, counts, folder, tuning.scores)
        if cutting.uniform:
            save_folder(result.model, folder / PRETRAINED, result.graph.run.source.calls)
        original = _kept_original(origin, folder)
        document = {**describe(dense, "prune"), "original": original, **_told(result, report, tuning)}
        write_run(folder, document)
        return CommandResult({"out": str(out), **document}, _text(result, tuning, report, out))


def _told(result: Pruned, report: Report, tuning: Tuning) -> dict[str, Any]:
    """Return the results as plain data."""
    from secateur.probing import Found

    return {
        "plan": json.loads(result.plan.to_json()),
        "cut": result.report,
        "search": result.as_dict() if isinstance(result, Found) else None,
        "report": report.as_dict(),
        "metrics": asdict(tuning.scores) if tuning.scores else None,
        "history": tuning.as_dict(),
    }


def _warn_of_chance(origin: ModelOrigin) -> None:
    if origin.weights is None and origin.spec.partition(":")[0] in LIBRARIES:
        warn(f"without --weights, the weights of {origin.spec} are random")


def _check_cut(plan: Plan, epochs: int) -> None:
    """Raise `TargetError` if training would follow although nothing is cut."""
    if plan.is_empty and epochs:
        raise TargetError(
            f"the target is already met: {', '.join(plan.target)}, so nothing is cut before fine-tuning\n"
            "ask for less; to train the model as it is: secateur train"
        )


def _counted(dense: Loaded, small: nn.Module, plan: Plan, targets: Sequence[str]) -> tuple[Count, Count]:
    """Count both models themselves, not as the plan predicts them. Raises `CheckFailed` if a target is missed."""
    from secateur.cost.count import count
    from secateur.cost.kinds import CHANNELS
    from secateur.planning import parse_targets

    with working("counting"):
        before, after = count(dense.model, dense.inputs), count(small, dense.inputs)
    for target in parse_targets(targets):
        have, had = getattr(after, target.kind, 0), getattr(before, target.kind, 0)
        if target.kind != CHANNELS and have > target.limit(had):
            raise CheckFailed(f"the target {target} is missed: {have:,} remain of {had:,}\nnothing was written")
    predicted = (plan.before.params, plan.before.macs, plan.after.params, plan.after.macs)
    if predicted != (before.params, before.macs, after.params, after.macs):
        warn(f"the plan predicts {plan.after}, but {after.params:,} parameters and {after.macs:,} MACs were counted")
    return before, after


def _measured(
    dense: Loaded, small: nn.Module, counts: tuple[Count, Count], folder: Path, scores: MetricScores | None
) -> Report:
    """Save both models and time them alternately."""
    from secateur.files.model_file import save
    from secateur.report import MeasuredModel, Report, timings

    pruned_bytes = save_checked(small, dense, folder)
    save(dense.model, folder / DENSE)
    old, new = timings([dense.model, small], dense.inputs, watch=lambda r: watched("latency", r, len(r)))
    before, after = counts
    return Report(
        MeasuredModel(before.params, before.macs, (folder / DENSE).stat().st_size, old),
        MeasuredModel(after.params, after.macs, pruned_bytes, new),
        batch=dense.inputs[0].shape[0] if dense.inputs[0].dim() else 1,
        scores=scores,
    )


def _kept_original(origin: ModelOrigin, folder: Path) -> dict[str, str]:
    """Return where the weights before the cut are: in the file they came from, or else kept in this folder."""
    if origin.weights is None:
        return {"path": DENSE, "sha256": Original.of(folder / DENSE).sha256}
    (folder / DENSE).unlink()
    return {"path": str(origin.weights), "sha256": Original.of(origin.weights).sha256}


def _text(result: Pruned, tuning: Tuning, report: Report, out: Path) -> str:
    saved = f"saved {out / MODEL}; a freshly built model that loads it gives identical outputs"
    if "uniform" in result.plan.notes:
        saved += f"\nsaved {out / PRETRAINED}; its class loads it with from_pretrained"
    return "\n\n".join(part for part in (str(result), str(tuning), saved, str(report)) if part)
