"""Alternating cuts and training: `secateur.train.prune_and_fit` from the command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from typer import Option

from secateur.cli.command import CheckFailed
from secateur.cli.fine_tune import Tuning
from secateur.cli.inspect import traced
from secateur.cli.measuring import MetricReader
from secateur.cli.options import CutOptions
from secateur.cli.origin import Loaded
from secateur.cli.plan import check, selection
from secateur.cli.request import Request, proved
from secateur.cli.searching import DropOptions
from secateur.cli.sensitivity import judging
from secateur.cli.train import needed
from secateur.errors import InputError

if TYPE_CHECKING:
    from secateur.plan.plan import Plan
    from secateur.pruning import Pruned
    from secateur.train import Fitted


@dataclass(frozen=True)
class LoopOptions:
    """How many stages there are, and how much each cuts."""

    panel: ClassVar[str] = "Stages"

    steps: Annotated[
        int,
        Option(min=1, help="Number of stages; each cuts and trains for --finetune-epochs. --max-drop ends them early."),
    ] = 1
    schedule: Annotated[
        str, Option(help="How much of the original remains after each stage: linear, cubic, exponential, one_shot.")
    ] = "linear"

    @property
    def wanted(self) -> bool:
        return self.steps > 1

    def check(self, cutting: CutOptions, drop: DropOptions, epochs: int) -> None:
        """Raise `InputError` for options that are wrong in themselves, before a model is built."""
        from secateur.train.schedules import factory

        for target in cutting.target:
            if "=" not in target:
                raise InputError(
                    f"--target {target} has no number, but --steps needs one to cut towards\n"
                    f"write --target {target}=0.3; --max-drop may end the stages before it is reached"
                )
        check(cutting)
        factory(self.schedule)
        if not epochs:
            raise InputError("--steps trains after each cut: add --finetune-epochs 1, the epochs of each stage")
        for option, given in (("drop", cutting.drop), ("allocation", cutting.allocation), ("probes", drop.probes)):
            if given:
                raise InputError(f"--{option} applies to a single cut; leave it out, or leave out --steps")


def looped(
    dense: Loaded, asked: Request, tuning: Tuning, loop: LoopOptions, *, verify: bool | None
) -> tuple[Pruned, Tuning]:
    """Return the last good model of the loop, and the record of its training.

    Raises `CheckFailed` if no stage is good enough.
    """
    from secateur.report import MetricScores

    judge = needed(asked.judge)
    judge.rehearse(dense.model)
    before = judge.score(dense.model, "before")
    fitted = _fitted(dense, asked, tuning, loop, judge)
    result = _as_pruned(dense, fitted, uniform=asked.cutting.uniform)
    if verify:
        result = _proved(dense, result)
    scores = MetricScores(judge.name, before, after_finetuning=judge.score(fitted.model, "after fine-tuning"))
    stages = tuple(record.as_dict() for record in fitted.stages)
    return result, replace(tuning, history=fitted.history, scores=scores, stages=stages)


def _fitted(dense: Loaded, asked: Request, tuning: Tuning, loop: LoopOptions, judge: MetricReader) -> Fitted:
    from secateur.train import prune_and_fit

    trainer, cutting, calibration = tuning.trainer, asked.cutting, asked.calibration
    with trainer.watched("fine-tuning", judge, loop.steps) as progress:
        return prune_and_fit(
            dense.model,
            dense.inputs,
            cutting.target,
            judge.data.train,
            epochs=trainer.epochs,
            options=trainer.options,
            penalties=trainer.penalties if trainer.training.penalty else None,
            teacher=trainer.teacher(dense, dense.model),
            metric=judging(judge, 100.0 if judge.name == "accuracy" else 1.0),
            max_drop=asked.drop.max_drop,
            higher_is_better=not asked.drop.lower_is_better,
            checkpoint=trainer.checkpoint,
            log=trainer.log,
            progress=progress,
            schedule=loop.schedule,
            steps=loop.steps,
            importance=cutting.importance,
            select=selection(cutting),
            scope=cutting.scope,
            uniform=cutting.uniform,
            data=calibration.batches or None,
            loss=calibration.loss,
            recover=calibration.recover,
            seed=asked.seed,
        )


def _as_pruned(dense: Loaded, fitted: Fitted, *, uniform: bool) -> Pruned:
    """Return all stages as one cut, so that the saved file has one plan more than the model before."""
    from secateur.apply.ready import PLANS, plans_of
    from secateur.pruning import Pruned

    if fitted.plan is None:
        raise CheckFailed(
            f"no stage is good enough\n{fitted}\nnothing was written: allow more with --max-drop, cut less at a time "
            "with --steps, or train longer with --finetune-epochs"
        )
    last = next(record for record in reversed(fitted.stages) if record.good)
    plan: Plan = replace(fitted.plan, target=last.target)
    fitted.model.__dict__[PLANS] = (*plans_of(dense.model), plan)
    unproved = "the model was trained between stages; --verify proves their combined cut"
    return Pruned(fitted.model.eval(), plan, traced(dense, uniform=uniform), unproved=unproved)


def reached(dense: Loaded, plan: Plan, asked: CutOptions) -> tuple[str, ...]:
    """Return the targets to check the counts of the result against: none if the loop ended before it reached them.

    Targets refer to the model before its first cut. If `dense` was already cut, they are converted to counts.
    """
    from secateur.apply.ready import plans_of
    from secateur.planning import parse_targets

    targets, earlier = parse_targets(asked.target), plans_of(dense.model)
    if plan.target != tuple(map(str, targets)):
        return ()
    if not earlier:
        return plan.target
    original: Any = earlier[0].before
    counted = [target for target in targets if original[target.kind] is not None]
    return tuple(f"{target.kind}={target.limit(original[target.kind])}" for target in counted)


def _proved(dense: Loaded, result: Pruned) -> Pruned:
    """Prove the cut by the combined plan of all stages, and check that the trained model has the same structure."""
    from secateur.anatomy.structure import difference
    from secateur.apply import cut

    if result.plan.recovery:
        return proved(dense, result, result.model)
    small: Any = cut(dense.model, result.plan).eval()
    if different := difference(result.model, small):
        raise CheckFailed(f"the trained model is not what the plan says: {different}\nnothing was written")
    return proved(dense, result, small)
