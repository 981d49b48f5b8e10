"""Ranks filters by their estimated effect on the loss and cuts the lowest of the whole network, round by round.

Each round scores every filter by the absolute value of activation times gradient, averaged over examples and divided by
the L2 norm of its layer's scores, cuts the lowest, and fine-tunes. The script that made this known for PyTorch handled
only VGG, renumbered filters by hand, one after another, and pickled whole models; its flags work here too.

That script fine-tuned an ImageNet network to distinguish cats from dogs, with more knowledge than a small network
trained from scratch. `--classes` does the same with other data: a network trained on all classes is fine-tuned on some.

    secateur recipe taylor --classes 3,5
    secateur recipe taylor --train --train-path cats_and_dogs/train --test-path cats_and_dogs/test --out run
    secateur recipe taylor --prune --train-path cats_and_dogs/train --test-path cats_and_dogs/test --out run
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Optional

import torch.nn.functional as F
from torch import nn
from typer import Option

import secateur
from secateur.errors import InputError, nearest
from secateur.importance import needs_of_importance, score
from secateur.models.checkpoint import copy_matching, load_matching
from secateur.models.vgg import vgg16, vgg_like
from secateur.recipes.framework import Options, Result, Row, scratch
from secateur.recipes.images import ImageBench, Images
from secateur.recipes.ranking import lowest, units_of
from secateur.statistics.calibration import calibrate

# ruff: noqa: UP045

NAME = "taylor"
SOURCE = (
    "Molchanov et al., Pruning Convolutional Neural Networks for Resource Efficient Inference, ICLR 2017, and its "
    "re-implementation for PyTorch by Gildenblat"
)
CLAIM = (
    "ranked by Taylor score, two thirds of the filters of a VGG-16 go in rounds of 512, with fine-tuning in between, "
    "and accuracy stays close (98.7 % to 97.5 % on cats against dogs); ranked otherwise, more is lost"
)
NETS: dict[str, Callable[..., nn.Module]] = {"vgg": vgg_like, "vgg16": vgg16}
CRITERIA = {"random": "random", "l1": "l1/l2", "taylor": "taylor"}
"""The name of a row -> the importance, divided by the L2 norm of a layer's scores. The last is that of the source."""

ROUND = 512 / 4224
"""The share of VGG-16's filters that the source cuts per round."""

LEAST = 4
"""The minimum number of filters of each layer."""

LR, FINETUNE_LR = 0.05, 0.02


@dataclass(frozen=True)
class Rounds:
    """`count` rounds, each of which cuts `filters` filters and fine-tunes for `epochs`, the last one twice as long."""

    count: int
    filters: int
    epochs: int

    @classmethod
    def of(cls, units: int, keep: float, filters: int | None, epochs: int) -> Rounds:
        """Return as many rounds as leave at least `keep` of the units. Raises `InputError` if that is less than one."""
        each = filters or max(1, round(units * ROUND))
        count = int(units * (1 - keep) / each)
        if count < 1:
            raise InputError(f"keep={keep} of {units} filters is less than one round of {each}; give fewer filters")
        return cls(count, each, epochs)

    @property
    def at_once(self) -> Rounds:
        """The same cut and the same training in one round."""
        return Rounds(1, self.count * self.filters, (self.count + 1) * self.epochs // 2)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the number of each round and the epochs after it."""
        return ((number, self.epochs * (1 + (number == self.count))) for number in range(1, self.count + 1))


def run(
    options: Options,
    *,
    train: Annotated[bool, Option("--train", help="Only train, and save the weights in the --out folder.")] = False,
    prune: Annotated[bool, Option("--prune", help="Only prune what --train saved there. By default both.")] = False,
    train_path: Annotated[Optional[str], Option(help="Folder of training images, one sub-folder per class.")] = None,
    test_path: Annotated[Optional[str], Option(help="Folder of test images.")] = None,
    data: Annotated[
        str, Option(help="Data if no folders are given: cifar10-jpeg, mnist, fashion-mnist, ...")
    ] = "cifar10-jpeg",
    net: Annotated[str, Option(help=f"One of {', '.join(NETS)}.")] = "vgg",
    width: Annotated[
        Optional[float], Option(help="Factor on channels; by default 1 with folders, else 0.375, or 0.25 with --quick.")
    ] = None,
    image_size: Annotated[
        Optional[int],
        Option(min=8, help="Larger images are reduced to this side; by default 64 with folders, else 16."),
    ] = None,
    images: Annotated[
        Optional[int], Option(min=1, help="Training images; by default 9,000, or 2,000 with --quick.")
    ] = None,
    classes: Annotated[
        str, Option(help="Train on all classes, then on these, by number: 3,5 are CIFAR-10's cats and dogs.")
    ] = "",
    pretrained: Annotated[
        Optional[Path], Option(help="Initial weights, where shapes match: .safetensors, or a state dict.")
    ] = None,
    keep: Annotated[float, Option(min=0.01, max=0.99, help="Share of filters to keep.")] = 0.33,
    filters: Annotated[Optional[int], Option(min=1, help="Filters to cut per round; by default 12 % of all.")] = None,
    epochs: Annotated[int, Option(min=1, help="Epochs of training the dense network.")] = 6,
    finetune_epochs: Annotated[int, Option(min=1, help="Epochs after each round.")] = 1,
    batch_size: Annotated[int, Option(min=1, help="Images per batch.")] = 32,
) -> Result:
    """Train, then rank, drop and fine-tune in rounds, by Taylor score and by other criteria; compare with scratch."""
    if net not in NETS:
        raise InputError(f"no net {net!r}; known: {', '.join(NETS)}{nearest(net, NETS)}")
    counts = (images or 2_000, 1_000) if options.quick else (images or 9_000, 5_000)
    own = bool(train_path or test_path)
    side = image_size or (64 if own else 16)
    source = Images(data, *counts, side, batch_size, train_path, test_path, numbers(classes))
    bench = ImageBench.open(source, options)
    build = partial(NETS[net], width=width or (0.25 if options.quick else 1.0 if own else 0.375))
    dense = bench.built(build)
    start = Start(build, replace(source, classes=()), epochs, pretrained) if pretrained or classes else None
    rows = [_dense(bench, dense, epochs, start, train=train, prune=prune)]
    rounds = Rounds.of(units_of(secateur.trace(dense, bench.example)), keep, filters, finetune_epochs)
    if prune or not train:
        rows += _pruned(bench, dense, rounds, epochs)
    told = f"{bench.told}, {side} pixels wide; {f'starting from {start}; ' if start else ''}"
    told += f"trained {epochs} epochs, and {finetune_epochs} behind each of "
    told += f"{rounds.count} rounds of {rounds.filters} filters. The source: ImageNet weights, cats against dogs, 224 "
    return Result(NAME, CLAIM, f"{told}pixels, 10 epochs behind each of 5 rounds of 512", tuple(rows))


def numbers(classes: str) -> tuple[int, ...]:
    """Parse the classes of the command line. Raises `InputError` for anything that is not a number.

    >>> numbers("3, 5"), numbers("")
    ((3, 5), ())
    """
    try:
        return tuple(int(number) for number in classes.split(",") if classes)
    except ValueError as error:
        raise InputError(f"--classes {classes}; write numbers separated by commas, such as 3,5") from error


@dataclass(frozen=True)
class Start:
    """The initial weights of the network: those of a file, or from training on all classes."""

    build: Callable[..., nn.Module]
    images: Images
    epochs: int
    pretrained: Path | None

    def give(self, model: nn.Module, options: Options) -> None:
        """Load the weights of all layers whose shapes match; the last, with an output for each class, may not."""
        if self.pretrained:
            count = load_matching(model, self.pretrained)
            options.say(f"{self.pretrained}: {count} of {len(model.state_dict())} tensors fit")
            return
        bench = ImageBench.open(self.images, options)
        wide = bench.built(self.build)
        options.say(f"all classes: {100 * bench.trained(wide, self.epochs, LR):.2f} %")
        copy_matching(model, wide.state_dict())

    def __str__(self) -> str:
        return f"{self.pretrained}" if self.pretrained else f"{self.epochs} epochs on all classes of {self.images}"


def _dense(bench: ImageBench, model: nn.Module, epochs: int, start: Start | None, *, train: bool, prune: bool) -> Row:
    """Train the network and save it in the folder, if any; with `--prune` alone, load it from there."""
    path = _kept(bench.options, train, prune)
    if prune and not train:
        assert path is not None
        secateur.load(model, path)
        return bench.row("dense", model, dense=bench.accuracy(model))
    if start is not None:
        start.give(model, bench.options)
    row = bench.row("dense", model, dense=bench.trained(model, epochs, FINETUNE_LR if start else LR))
    if path is not None:
        secateur.save(model, path)
    return row


def _kept(options: Options, train: bool, prune: bool) -> Path | None:
    """Return the file of the trained weights. Raises `InputError` if a single step has no file to write or read."""
    path = options.out and options.out / "dense.safetensors"
    if train != prune and path is None:
        step, does = ("--train", "saves them there") if train else ("--prune", "loads them from there")
        raise InputError(f"{step} alone needs a folder for the trained weights, and {does}: add --out FOLDER")
    if prune and not train and path is not None and not path.is_file():
        raise InputError(f"{path} does not exist; train first: secateur recipe taylor --train --out {options.out}")
    return path


def _pruned(bench: ImageBench, dense: nn.Module, rounds: Rounds, epochs: int) -> Iterator[Row]:
    """Yield a row for each criterion, for one round instead of several, and for the last network from scratch."""
    small = dense
    for name in CRITERIA:
        small, row = in_rounds(bench, dense, name, CRITERIA[name], rounds)
        yield row
    if bench.options.out:
        secateur.save(small, bench.options.out / "pruned.safetensors")
    yield in_rounds(bench, dense, "taylor, in one round", "taylor", rounds.at_once)[1]
    fresh = scratch(small, bench.options.seed)
    total = epochs + sum(count for _, count in rounds)
    yield bench.row("from scratch", fresh, scratch=bench.trained(fresh, total, LR))


def in_rounds(bench: ImageBench, dense: nn.Module, name: str, importance: str, rounds: Rounds) -> tuple[nn.Module, Row]:
    """Cut the lowest filters of the network and fine-tune, round by round. The row has the figures of the last cut."""
    model, told = dense, []
    after_cut = finetuned = 0.0
    for number, epochs in rounds:
        model = without_lowest(bench, model, importance, rounds.filters)
        after_cut = bench.accuracy(model)
        finetuned = bench.trained(model, epochs, FINETUNE_LR)
        told.append({"after_cut": after_cut, "finetuned": finetuned})
        bench.options.say(f"{name}, round {number}: {100 * after_cut:.1f} % after the cut, {100 * finetuned:.1f} %")
    return model, bench.row(name, model, after_cut=after_cut, finetuned=finetuned, more={"rounds": told})


def without_lowest(bench: ImageBench, model: nn.Module, importance: str, filters: int) -> nn.Module:
    """Return the model without the `filters` filters of the whole network with the lowest scores."""
    graph = secateur.trace(model, bench.example)
    needs = needs_of_importance(importance)
    statistics = calibrate(graph, bench.calibration(), needs=needs, loss=F.cross_entropy) if needs else None
    scores = score(graph, importance, statistics=statistics, seed=bench.options.seed)
    return secateur.cut(model, secateur.plan(graph, drop=lowest(graph, scores, filters, least=LEAST)))
