"""Cuts the filters with the smallest L1 norm, at a rate for each layer; sensitive layers are spared.

Only layers whose width is not shared with others are cut: in a residual block, all convolutions except the last. The
sensitivity of a layer is measured by cutting it alone. The source had a script for each network; here a network is a
line of `NETS`, and its rates are rules of `secateur.Select`.

    secateur recipe l1-filters --net resnet56 --out run
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Optional

from safetensors.torch import load_file
from torch import nn
from typer import Option

import secateur
from secateur.data import cifar
from secateur.errors import InputError, nearest
from secateur.models.cifar_resnet import cifar_resnet
from secateur.models.vgg import vgg16
from secateur.recipes.framework import Options, Result, Row, scratch
from secateur.recipes.images import ImageBench, Images
from secateur.train import evaluate

# ruff: noqa: UP045

NAME = "l1-filters"
SOURCE = "Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017"
CLAIM = (
    "34 % fewer MACs of VGG-16, 28 % of ResNet-56 and 39 % of ResNet-110 on CIFAR-10, with accuracy within 0.3 points "
    "of the dense networks after 40 epochs; the same networks from scratch are worse"
)
RATIOS = (0.75, 0.5, 0.25)
PROBES = 8
"""Batches of training images that each cut is evaluated on."""

LR, FINETUNE_LR = 0.05, 0.003


def _stages(*keeps: float) -> tuple[str, ...]:
    return tuple(f"layer{number}.*.conv1: keep={keep}" for number, keep in enumerate(keeps, start=1))


def _spared(blocks: int, *layers: int) -> tuple[str, ...]:
    """Return rules by the paper's layer numbers: the first convolution of block k, counted from 1, is layer 2 k."""
    places = [divmod(layer // 2 - 1, blocks) for layer in layers]
    return tuple(f"layer{stage + 1}.{block}.conv1: keep=1" for stage, block in places)


@dataclass(frozen=True)
class FiltersNet:
    """A network, the selector of the layers to cut, and the rates of the paper as rules, by the paper's name."""

    build: Callable[..., nn.Module]
    only: str
    rates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


NETS: dict[str, FiltersNet] = {
    "resnet20": FiltersNet(partial(cifar_resnet, 20), "layer*.conv1"),
    "resnet56": FiltersNet(
        partial(cifar_resnet, 56),
        "layer*.conv1",
        {
            "A": _stages(0.9, 0.9, 0.9) + _spared(9, 16, 20, 38, 54),
            "B": _stages(0.4, 0.7, 0.9) + _spared(9, 16, 18, 20, 34, 38, 54),
        },
    ),
    "resnet110": FiltersNet(
        partial(cifar_resnet, 110),
        "layer*.conv1",
        {
            "A": _stages(0.5) + _spared(18, 36),
            "B": _stages(0.5, 0.6, 0.7) + _spared(18, 36, 38, 74),
        },
    ),
    "vgg16": FiltersNet(
        partial(vgg16, hidden=(512,)),
        "features.*",
        {"A": tuple(f"features.{at}: keep=0.5" for at in (0, 24, 27, 30, 34, 37, 40))},
    ),
    "bottlenecks29": FiltersNet(partial(cifar_resnet, 29, bottleneck=True), "layer*.conv1, layer*.conv2"),
}
"""Rates are the shares of filters to keep. Networks without rates are cut by their measured sensitivity."""


def run(
    options: Options,
    *,
    net: Annotated[
        Optional[str], Option(help=f"One of {', '.join(NETS)}; by default resnet56, or resnet20 with --quick.")
    ] = None,
    keep: Annotated[
        float, Option(min=0.01, max=0.99, help="Share of filters to keep in each layer that tolerates the cut.")
    ] = 0.5,
    bears: Annotated[
        float, Option(min=0, max=1, help="Accuracy that a tolerant layer may lose when cut alone.")
    ] = 0.06,
    data: Annotated[str, Option(help="cifar10-jpeg, mnist, fashion-mnist, ...")] = "cifar10-jpeg",
    train_path: Annotated[Optional[str], Option(help="Folder of training images, one sub-folder per class.")] = None,
    test_path: Annotated[Optional[str], Option(help="Folder of test images.")] = None,
    width: Annotated[float, Option(help="Factor on the channels of the source's network.")] = 1.0,
    image_size: Annotated[int, Option(min=8, help="Larger images are reduced to this side, in pixels.")] = 32,
    epochs: Annotated[int, Option(min=1, help="Epochs of training, if there are no trained weights.")] = 6,
    finetune_epochs: Annotated[int, Option(min=1, help="Epochs after the cut.")] = 1,
    images: Annotated[
        Optional[int], Option(min=1, help="Training images; by default 2,400, or 1,200 with --quick.")
    ] = None,
    batch_size: Annotated[int, Option(min=1, help="Images per batch.")] = 32,
) -> Result:
    """Measure how sensitive each layer is, drop the smallest filters, fine-tune, and compare with scratch."""
    net = net or ("resnet20" if options.quick else "resnet56")
    if net not in NETS:
        raise InputError(f"no net {net!r}; known: {', '.join(NETS)}{nearest(net, NETS)}")
    counts = (images or 1_200, 1_000) if options.quick else (images or 2_400, 5_000)
    source = Images(data, *counts, image_size, batch_size, train_path, test_path)
    bench = ImageBench.open(source, options)
    dense = bench.built(NETS[net].build, width=width)
    given = _given(net, source, width)
    if given is not None:
        dense.load_state_dict(load_file(given))
    else:
        bench.trained(dense, epochs, LR)
    rows = [bench.row("dense", dense, dense=bench.accuracy(dense))]
    measured = sensitivities(bench, dense, NETS[net].only)
    rates = {f"{net}-{name}": rules for name, rules in NETS[net].rates.items()}
    rates["measured"] = bearing(measured, keep, bears)
    before = 0 if given else epochs
    rows += _compared(bench, dense, rates, _Epochs(before, finetune_epochs))
    told = f"{bench.told}; {f'trained {before} epochs' if before else 'given weights'}, fine-tuned {finetune_epochs}, "
    told += f"from scratch {before + finetune_epochs}. "
    told += "The source: all of CIFAR-10, 164 epochs, fine-tuned 40, from scratch 164"
    return Result(NAME, CLAIM, told, tuple(rows), {"sensitivity": curves(measured)})


@dataclass(frozen=True, slots=True)
class _Epochs:
    """Passes through the training images before the cut, none where weights were given, and after."""

    before: int
    finetune: int

    @property
    def scratch(self) -> int:
        return self.before + self.finetune


def _given(net: str, images: Images, width: float) -> Path | None:
    """Return the file of trained weights next to the images, if there is one."""
    if images.data != "cifar10-jpeg" or images.train_path or (width, images.side) != (1.0, cifar.SIDE):
        return None
    path = cifar.find().parent / f"{net}_cifar10jpeg.safetensors"
    return path if path.is_file() else None


def sensitivities(bench: ImageBench, dense: nn.Module, only: str) -> secateur.Sensitivity:
    """Measure the accuracy with each layer cut alone, on training images; plot it if there is a folder."""
    probes = bench.calibration(PROBES)
    measured = secateur.sensitivity(
        secateur.trace(dense, bench.example),
        lambda model: evaluate(model, probes),
        ratios=RATIOS,
        importance="l1",
        select={"only": only},
        higher_is_better=True,
    )
    bench.options.say(str(measured))
    if bench.options.out and find_spec("plotly"):
        measured.plot(bench.options.out / "sensitivity.html")
    elif bench.options.out:
        bench.options.say("no plot: plotly is not installed; pip install 'secateur[plot]'")
    return measured


def curves(measured: secateur.Sensitivity) -> dict[str, dict[str, float]]:
    """Return the accuracy lost, by layer and share kept."""
    return {c.name: {f"{p.ratio:g}": measured.dense - p.value for p in c.points} for c in measured.curves}


def bearing(measured: secateur.Sensitivity, keep: float, bears: float) -> tuple[str, ...]:
    """Return rules that keep `keep` of each layer that loses at most `bears` at the nearest measured share."""
    nearest_points = {c.name: min(c.points, key=lambda p: abs(p.ratio - keep)) for c in measured.curves if c.points}
    lost = {name: measured.dense - point.value for name, point in nearest_points.items()}
    return tuple(f"axis={name}: keep={keep if drop <= bears + 1e-9 else 1}" for name, drop in lost.items())


def cut(dense: nn.Module, bench: ImageBench, rules: Sequence[str], importance: str) -> nn.Module:
    """Return the network cut by the rules."""
    return secateur.prune(
        dense, bench.example, importance=importance, select=list(rules), seed=bench.options.seed
    ).model


def _compared(
    bench: ImageBench, dense: nn.Module, rates: Mapping[str, Sequence[str]], epochs: _Epochs
) -> Iterator[Row]:
    """Yield a row for each set of rates; for the last one also with random filters, and from scratch."""
    rules: Sequence[str] = ()
    for name, rules in rates.items():
        yield _tuned(bench, name, cut(dense, bench, rules, "l1"), epochs.finetune)
    small = cut(dense, bench, rules, "random")
    yield _tuned(bench, f"{list(rates)[-1]}, at random", small, epochs.finetune)
    fresh = scratch(small, bench.options.seed)
    yield bench.row("from scratch", fresh, scratch=bench.trained(fresh, epochs.scratch, LR))


def _tuned(bench: ImageBench, name: str, small: nn.Module, epochs: int) -> Row:
    after_cut = bench.accuracy(small)
    return bench.row(name, small, after_cut=after_cut, finetuned=bench.trained(small, epochs, FINETUNE_LR))
