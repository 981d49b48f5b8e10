"""`secateur mask`: set the least important weights to zero, optionally in rounds with training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Optional

from typer import Option

from secateur.cli.calibration import drawn
from secateur.cli.command import CommandResult
from secateur.cli.measuring import MetricReader, open_judge
from secateur.cli.options import OUT, SEED, DataOptions, ModelOptions
from secateur.cli.origin import Loaded, loaded, origin_of
from secateur.cli.runs import DENSE, MODEL, Original, staged
from secateur.cli.saving import describe, save_checked, write_run
from secateur.cli.train import needed
from secateur.cli.trainer import CommandTrainer, KeepingOptions, TrainerOptions
from secateur.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from secateur.masks import Masks
    from secateur.plan.plan import Plan

# Optional[...], since typer evaluates these at run time.
# ruff: noqa: UP045

CALIBRATION = 1024  # training examples, for criteria that need data


@dataclass(frozen=True)
class MaskOptions:
    """Which weights become zero, and when."""

    panel: ClassVar[str] = "What to mask"

    sparsity: Annotated[
        Optional[float],
        Option(help="Share of the masked weights that becomes ZERO. Default: 0.9, or as the pattern requires."),
    ] = None
    scope: Annotated[str, Option(help="Which weights are ranked together: global, layer or output.")] = "global"
    criterion: Annotated[str, Option(help="magnitude or random; with --data also taylor, snip, wanda.")] = "magnitude"
    pattern: Annotated[
        str, Option(help="unstructured; 2:4 (two of four inputs stay); 4x1 (blocks of four outputs at one input).")
    ] = "unstructured"
    protect: Annotated[
        list[str], Option(metavar="SELECTOR", help="Module or parameter (or glob) to leave unchanged; repeatable.")
    ] = field(default_factory=list)
    only: Annotated[list[str], Option(metavar="SELECTOR", help="Mask only this; repeatable.")] = field(
        default_factory=list
    )
    steps: Annotated[int, Option(min=1, help="Rounds of masking, each followed by --finetune-epochs of training.")] = 1
    schedule: Annotated[
        str, Option(help="How the rest shrinks from round to round: linear, cubic, exponential, one_shot.")
    ] = "cubic"

    def shares(self) -> list[float]:
        """Return the share of zeros after each round. Raises `InputError` for invalid options."""
        from secateur.masks.patterns import named_pattern, sparsity_of
        from secateur.train.schedules import factory

        end, schedule = sparsity_of(self.sparsity, self.pattern), factory(self.schedule)
        if self.steps == 1:
            return [end]
        if named_pattern(self.pattern).fixed is not None:
            raise InputError(f"--steps {self.steps}: the pattern {self.pattern} has one sparsity only; leave it out")
        remains = schedule(1 - end, self.steps)
        return [1 - remains(step) for step in range(1, self.steps + 1)]


@dataclass(frozen=True)
class Round:
    """The sparsity of a round, and the metric after masking and after training (None if not measured)."""

    sparsity: float
    after_masking: float | None = None
    after_finetuning: float | None = None


def mask(
    source: ModelOptions,
    masking: MaskOptions,
    data: DataOptions,
    training: TrainerOptions,
    out: OUT,
    finetune_epochs: Annotated[
        int, Option(min=0, help="Passes through the training data after each round of masking.")
    ] = 0,
    cut_dead: Annotated[
        bool, Option("--cut-dead", help="Cut units that are entirely zero; the outputs stay the same.")
    ] = False,
    harden: Annotated[bool, Option("--harden", help="Make the zeros permanent: the result is a plain model.")] = False,
    seed: SEED = 0,
) -> CommandResult:
    """Set single weights to zero and keep them zero during training; the model is saved with its masks.

    A run that already has masks gets sparser ones: zeros stay zero.

    secateur mask run/dense --sparsity 0.9 --steps 4 --data mnist --finetune-epochs 1 --out run/sparse
    """
    from secateur.apply import cut

    trainer, shares = CommandTrainer(training, KeepingOptions(), data, finetune_epochs, seed, out), masking.shares()
    origin = origin_of(source, seed)
    with staged(out, origin.weights) as folder:
        judge = open_judge(data, seed, origin.input)
        judge = needed(judge) if finetune_epochs else judge
        opened = loaded(origin, origin.load(), source, judge.example() if judge else None)
        before = _score(opened.model, judge, "before") if judge else None
        masks = _masked(opened.model, shares[0], masking, trainer, judge)
        rounds = list(_rounds(opened, masks, shares, trainer, judge))
        table, densities = str(masks), masks.density
        if harden:
            masks.harden()
        plan = _plan_of_dead(opened) if cut_dead else None
        original = _kept_original(opened.model, plan, folder)
        save_checked(opened.model if plan is None else cut(opened.model, plan), opened, folder)
        document = {
            **describe(opened, "mask"),
            "masks": {"pattern": masking.pattern, "scope": masking.scope, "criterion": masking.criterion},
            "density": densities,
            "rounds": [asdict(one) for one in rounds],
            "metrics": {"metric": judge.name, "before": before} if judge else None,
            "original": original,
            "plan": _noted(plan, opened.model) if plan else None,
            "cut": _cut(plan) if plan else None,
        }
        write_run(folder, document)
        return CommandResult(
            {"out": str(out), **document},
            "\n".join([table, "", *_told(rounds, before, judge), *_told_cut(plan), f"saved {out / MODEL}"]),
        )


def _score(model: nn.Module, judge: MetricReader, when: str) -> float:
    judge.rehearse(model)
    return judge.score(model, when)


def _masked(
    model: nn.Module, sparsity: float, masking: MaskOptions, trainer: CommandTrainer, judge: MetricReader | None
) -> Masks:
    from secateur.anatomy.masked import worn
    from secateur.masks import mask
    from secateur.masks.criteria import CRITERIA
    from secateur.models import load_function
    from secateur.train import cross_entropy

    criterion, loss = masking.criterion, trainer.training.loss
    reads = criterion in CRITERIA and bool(CRITERIA[criterion].needs)
    if reads and judge is None:
        raise InputError(f"--criterion {criterion} needs data: add --data mnist, a folder, or file.py:function")
    how: dict[str, Any] = {
        "scope": masking.scope,
        "criterion": criterion,
        "data": drawn(judge.data.train, CALIBRATION, trainer.seed) if reads and judge is not None else None,
        "loss": cross_entropy if loss is None else load_function(loss),
        "seed": trainer.seed,
    }
    if worn(model):
        return _sparser(model, sparsity, masking, how)
    chosen = {"pattern": masking.pattern, "protect": masking.protect, "only": masking.only}
    return mask(model, sparsity, **chosen, **how)


def _sparser(model: nn.Module, sparsity: float, masking: MaskOptions, how: dict[str, Any]) -> Masks:
    """Add zeros to the masks that a run already has."""
    from secateur.masks import masks_of

    masks = masks_of(model, **how)
    if masking.protect or masking.only:
        raise InputError("this run has its masks already; leave out --protect and --only, which choose what is masked")
    if masks.rules.pattern != masking.pattern:
        raise InputError(
            f"the masks of this run have the pattern {masks.rules.pattern}: give --pattern {masks.rules.pattern}"
        )
    if sparsity < masks.sparsity:
        raise InputError(
            f"of the masked weights of this run {masks.sparsity:.4g} are zero already, {sparsity:.4g} is asked for"
            " in the first round\ngive a higher --sparsity, and --schedule one_shot or fewer --steps"
        )
    masks.update(sparsity)
    return masks


def _rounds(
    opened: Loaded, masks: Masks, shares: list[float], trainer: CommandTrainer, judge: MetricReader | None
) -> Iterator[Round]:
    for number, sparsity in enumerate(shares, 1):
        if number > 1:
            masks.update(sparsity)
        if judge is None:
            yield Round(masks.sparsity)
            continue
        masked, tuned = _score(opened.model, judge, "after masking"), None
        if trainer.epochs:
            trainer.fit(opened, opened.model, judge, f"round {number} of {len(shares)}")
            tuned = judge.score(opened.model, "after fine-tuning")
        yield Round(masks.sparsity, masked, tuned)


def _plan_of_dead(opened: Loaded) -> Plan:
    from secateur.masks.dead import plan_of_dead

    return plan_of_dead(opened.model, opened.inputs)


def _noted(plan: Plan, model: nn.Module) -> dict[str, Any]:
    """Return the plan as the saved file has it, with the names that weights have without masks."""
    from secateur.anatomy.masked import masked_names
    from secateur.anatomy.masked_names import plain

    return json.loads(plain(plan, masked_names(model)).to_json())


def _kept_original(model: nn.Module, plan: Plan | None, folder: Path) -> dict[str, str] | None:
    """Save the masked model before the cut, so that verify can repeat the cut; no other file holds its weights."""
    from secateur.files.model_file import save

    if plan is None or plan.is_empty:
        return None
    save(model, folder / DENSE)
    return {"path": DENSE, "sha256": Original.of(folder / DENSE).sha256}


def _cut(plan: Plan) -> dict[str, Any]:
    """Return how many units, parameters and MACs were cut."""
    return {
        "units": sum(axis.size - axis.kept_count for axis in plan.axes.values()),
        "params": {"before": plan.before.params, "after": plan.after.params},
        "macs": {"before": plan.before.macs, "after": plan.after.macs},
    }


def _told_cut(plan: Plan | None) -> list[str]:
    from secateur.base.text import counted

    if plan is None:
        return []
    cut = _cut(plan)
    sizes = (
        f"{word} {cut[key]['before']:,} -> {cut[key]['after']:,}"
        for word, key in (("parameters", "params"), ("MACs", "macs"))
    )
    return [f"cut {counted(cut['units'], 'dead unit')}: {', '.join(sizes)}"]


def _told(rounds: list[Round], before: float | None, judge: MetricReader | None) -> list[str]:
    """Return the metric of each round as the lines of a table."""
    from secateur.base.text import columns, share
    from secateur.report import MetricScores

    if judge is None or before is None:
        return []

    def show(score: float | None) -> str:
        return "" if score is None else MetricScores(judge.name, score, score).show(score)

    rows = [[share(one.sparsity), show(one.after_masking), show(one.after_finetuning)] for one in rounds]
    head = ["zero", f"{judge.name} after masking", "after fine-tuning"]
    return [*columns([head, ["0 %", show(before), ""], *rows], right=range(3)), ""]
