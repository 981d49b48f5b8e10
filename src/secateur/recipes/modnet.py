"""Cuts MODNet, a portrait matting network, in small steps with fine-tuning, to the size of a model pruned by hand.

That model was made with NNI in weeks, from 6.45 M parameters and 18,117 M MACs at 512 x 512 to 1.76 M and 8,977 M.
Keys were renamed and channels edited by hand, and the statistics of batch norms were lost. Here the target is one line.
The tracer handles norms that are half batch norm and half instance norm, one encoder under two names, and images
concatenated to features; the statistics follow their channels.

    secateur recipe modnet --quick --out mattes/
    secateur recipe modnet --lr-branch 0.5 --hr-branch 0.7 --f-branch 0.8 --backbone 0.6

The second command cuts branch by branch; then there is no other target, unless `--target` is given.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Optional

from torch import Tensor, nn
from typer import Option

import secateur
from secateur.base.text import counted
from secateur.data import Batch
from secateur.data.matting import parts
from secateur.recipes.framework import Options, Result, Row, scratch
from secateur.recipes.matting import FULL, LR, QUICK, TUNING_LR, Errors, MattingWorkshop
from secateur.recipes.matting_losses import modnet_loss
from secateur.recipes.matting_picture import write_picture

# Optional[...], since typer evaluates these at run time.
# ruff: noqa: UP045

NAME = "modnet"
SOURCE = "Ke et al., MODNet, AAAI 2022 (arXiv:2011.11961), as cut by hand with NNI"
CLAIM = (
    "by hand, in weeks: 6.45 to 1.76 M parameters, 18,117 to 8,977 M MACs at 512 x 512, 0.85 to 0.54 s;"
    " statistics of norms and quality of mattes were lost"
)
BY_HAND = ("params=1.76e6", "macs=8.98e9")
COMPARED = (("l2", "none"), ("l2", "norms"), ("taylor", "norms"), ("fisher", "norms"))
"""Importance and recovery of the rows without fine-tuning."""

PICTURE, WEIGHTS = "mattes.png", "modnet.safetensors"
PICTURED = 6
"""Images in the picture."""


@dataclass(frozen=True)
class Cut:
    """How much to keep, and how units are chosen."""

    target: Sequence[str]
    rules: Sequence[str]
    importance: str
    recover: str

    def words(self, calibration: Sequence[Batch]) -> dict[str, Any]:
        """Return the arguments for `secateur.prune` and `iterate`."""
        return {
            "target": list(self.target) or None,
            "select": list(self.rules),
            "importance": self.importance,
            "recover": () if self.recover == "none" else self.recover,
            "data": calibration,
            "loss": modnet_loss,
        }

    def __str__(self) -> str:
        return self.importance if self.recover == "none" else f"{self.importance} + {self.recover}"


def run(
    options: Options,
    *,
    target: Annotated[
        Optional[list[str]],
        Option(metavar="KIND=NUMBER", help="How much to keep; by default the size of the model pruned by hand."),
    ] = None,
    backbone: Annotated[Optional[float], Option(help="Share of the encoder's channels to keep.")] = None,
    lr_branch: Annotated[Optional[float], Option(help="The same for the low-resolution branch.")] = None,
    hr_branch: Annotated[Optional[float], Option(help="The same for the high-resolution branch.")] = None,
    f_branch: Annotated[Optional[float], Option(help="The same for the fusion branch.")] = None,
    steps: Annotated[int, Option(min=1, help="Number of cuts, each followed by fine-tuning.")] = 4,
    importance: Annotated[str, Option(help="How to score channels.")] = "fisher",
    recover: Annotated[
        str, Option(help="Recovery after each cut: norms (statistics measured again), shift, lsq, or none.")
    ] = "norms",
) -> Result:
    """Train, cut in small steps and in one step, fine-tune equally long, and compare."""
    shares = {"backbone": backbone, "lr_branch": lr_branch, "hr_branch": hr_branch, "f_branch": f_branch}
    rules = [f"{branch}.*: keep={share}" for branch, share in shares.items() if share is not None]
    cut = Cut(target or (() if rules else BY_HAND), rules, importance, recover)
    shop = MattingWorkshop.open(QUICK if options.quick else FULL, options)
    calibration = list(shop.batches(shop.sizes.calibration, kind=1))

    dense = shop.dense()
    rows = [
        shop.row("dense", dense, dense=shop.errors(dense), finetuned=tuned(shop, dense)),
        *compared(shop, dense, cut, calibration),
    ]
    whole = secateur.prune(dense, shop.example, **cut.words(calibration))
    found = {"after_cut": shop.errors(whole.model), "finetuned": tuned(shop, whole.model)}
    rows.append(shop.row(f"{cut}, at once", whole.model, **found))
    small, row = in_steps(shop, dense, cut, steps, calibration)
    rows += [row, from_scratch(shop, small)]
    if options.out:
        write_files(options.out, shop, {"dense": dense, "right after": whole.model, "tuned": small})

    latency = shop.latency(dense, small)
    ms = {"dense": latency["dense_ms"], row.method: latency["pruned_ms"]}
    more = {
        "latency": latency,
        "verification": proved(dense, whole.plan, shop.test[0][0][:1]),
        "target": list(cut.target),
        "rules": rules,
    }
    timed = tuple(replace(row, more={**row.more, "ms": ms.get(row.method, "")}) for row in rows)
    return Result(NAME, CLAIM, told(shop), timed, more, metric="mse", columns=("ms",))


def compared(shop: MattingWorkshop, dense: nn.Module, cut: Cut, calibration: Sequence[Batch]) -> Iterator[Row]:
    """Yield rows for the whole cut by other criteria, without fine-tuning."""
    for importance, recover in COMPARED:
        other = replace(cut, importance=importance, recover=recover)
        if other != cut:
            small = secateur.prune(dense, shop.example, **other.words(calibration)).model
            yield shop.row(f"{other}, at once", small, after_cut=shop.errors(small))


def tuned(shop: MattingWorkshop, model: nn.Module) -> Errors:
    """Return the errors of a copy after all fine-tuning; the dense network also still improves by it."""
    copied = copy.deepcopy(model)
    shop.fitted(copied, shop.batches(shop.sizes.tuning, kind=2), TUNING_LR)
    return shop.errors(copied)


def in_steps(
    shop: MattingWorkshop, dense: nn.Module, cut: Cut, steps: int, calibration: Sequence[Batch]
) -> tuple[nn.Module, Row]:
    """Alternate parts of the cut and of the fine-tuning; the optimizer keeps its moments through every cut."""
    optimizer = shop.training(TUNING_LR).make_optimizer(dense)
    rows = []
    for stage in secateur.iterate(
        dense, shop.example, steps=steps, carry=[optimizer], seed=shop.options.seed, **cut.words(calibration)
    ):
        after_cut = shop.errors(stage.model)
        batches = shop.batches(max(1, shop.sizes.tuning // steps), kind=10 + stage.number)
        shop.fitted(stage.model, batches, TUNING_LR, optimizer)
        found = {"after_cut": after_cut, "finetuned": shop.errors(stage.model)}
        rows.append((stage.model, shop.row(f"{cut}, step {stage.number} of {steps}", stage.model, **found)))
    stages = [{"params": row.params, "macs": row.macs, **row.metric} for _, row in rows]
    small, last = rows[-1]
    return small, replace(last, method=f"{cut}, {counted(steps, 'step')}", more={"stages": stages})


def from_scratch(shop: MattingWorkshop, small: nn.Module) -> Row:
    """Return a row for the same small network from random weights, trained as long as the others were fine-tuned."""
    fresh = scratch(small, shop.options.seed)
    shop.fitted(fresh, shop.batches(shop.sizes.tuning, kind=2), LR)
    return shop.row("from scratch", fresh, scratch=shop.errors(fresh))


def write_files(folder: Path, shop: MattingWorkshop, models: dict[str, nn.Module]) -> None:
    """Write mattes of test images side by side, and the last model's weights for `secateur.load(MODNet(), ...)`."""
    image, targets = shop.test[0]
    write_picture(folder / PICTURE, models, image[:PICTURED], parts(targets)[0][:PICTURED])
    secateur.save([*models.values()][-1], folder / WEIGHTS)


def proved(dense: nn.Module, plan: secateur.Plan, image: Tensor) -> dict[str, Any]:
    """Verify in float64, before recovery, that the cut network equals the dense one with its channels silenced."""
    return secateur.verify(dense, secateur.cut(dense, plan), plan, image).as_dict()


def told(shop: MattingWorkshop) -> str:
    """Describe the data of the figures, and how they differ from the source."""
    sizes = shop.sizes
    figures, people = len(shop.train.figures), sum(len(figure.texts) for figure in shop.train.figures)
    return (
        f"composites of {sizes.side} x {sizes.side}: {people:,} people of {figures} figures from an emoji font, with"
        f" exact alpha, over parts of scikit-image's photos; {sizes.dense} batches of {sizes.batch} to train,"
        f" {sizes.tuning} to tune; {sizes.test * sizes.batch} test images of other figures over other parts. The source"
        " trains on thousands of portraits at 512 x 512, for days on a GPU: errors do not compare with its own"
    )
