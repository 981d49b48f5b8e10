"""Trains with an L1 penalty on norm scales, then cuts all channels below one threshold for the whole network.

The source let every block of a pre-activation network choose its channels from the shared stream by an index layer. A
stream is one axis here: a channel is cut everywhere or nowhere, by the sum of its scales. For the index layer, see
`secateur.models.pick.with_picks`. Both, and the mean of scales in place of their sum, are measured at the same MACs.

    secateur recipe slimming --net preresnet --keep 0.4
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Optional

import torch
from torch import Tensor, nn
from typer import Option

import secateur
from secateur.errors import InputError, nearest
from secateur.graph.graph import Graph
from secateur.importance import Criterion, score
from secateur.importance.batch_norm import BatchNormScale
from secateur.importance.slices import AxisSlices
from secateur.models import densenet as dense_models
from secateur.models import preresnet as residual_models
from secateur.models.pick import with_picks
from secateur.models.vgg import vgg16
from secateur.plan.plan import Plan
from secateur.recipes.framework import Options, Result, Row, scratch
from secateur.recipes.images import ImageBench, Images
from secateur.recipes.ranking import lowest, units_of
from secateur.recover import recover_
from secateur.train.penalties import ScaleL1

# ruff: noqa: UP045

NAME = "slimming"
SOURCE = "Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017"
CLAIM = (
    "on CIFAR-10, 70 % of the channels of VGG and DenseNet-40 and 60 % of PreResNet-164 go after training with the "
    "penalty, and fine-tuning brings accuracy back to that of the dense network"
)


@dataclass(frozen=True)
class Net:
    """A network, how wide it is here, and the share of its channels to keep.

    fall: how many times over the penalty alone would lower a scale to zero in all of training, unless its strength is
    given. The source's rates, steps and strengths amount to 13 for VGG and to 1.3 for the others.
    stream: the norms that read a stream and can have an index layer. A cut of a stream makes many layers narrower, so
    such a network reaches the same MACs with fewer channels cut.
    """

    build: Callable[..., nn.Module]
    width: float
    keep: float
    fall: float
    stream: Sequence[str] = ()


NETS: dict[str, Net] = {
    "vgg": Net(vgg16, 0.25, 0.3, 4.0),
    "preresnet": Net(partial(residual_models.preresnet, 29), 0.5, 0.6, 1.3, residual_models.STREAM),
    "densenet": Net(partial(dense_models.densenet, 40), 0.25, 0.6, 1.3, dense_models.STREAM),
}
QUICK = {
    "vgg": NETS["vgg"],
    "preresnet": replace(NETS["preresnet"], build=partial(residual_models.preresnet, 20)),
    "densenet": replace(NETS["densenet"], build=partial(dense_models.densenet, 16)),
}

LEAST = 2
"""The minimum number of channels of each layer, however small their scales."""

FIRST_SCALE = 0.5
"""The initial value of scales, as in the source."""

LR, FINETUNE_LR, MOMENTUM = 0.05, 0.02, 0.9


@dataclass(frozen=True, slots=True)
class Training:
    """The strength of the penalty (None: by the network's `fall`), and the epochs of training."""

    strength: float | None
    epochs: int
    finetune_epochs: int


def run(
    options: Options,
    *,
    net: Annotated[str, Option(help=f"One of {', '.join(NETS)}, or all.")] = "all",
    keep: Annotated[
        Optional[float],
        Option(min=0.01, max=0.99, help="Share of channels to keep; by default 0.3 for vgg, 0.6 for others."),
    ] = None,
    strength: Annotated[
        Optional[float],
        Option(min=0, help="Strength of the penalty; by default enough to bring unused scales to zero."),
    ] = None,
    index_layer: Annotated[
        bool, Option(help="Also measure index layers, where each reader of a stream has its own channels.")
    ] = True,
    data: Annotated[str, Option(help="fashion-mnist, mnist, cifar10-jpeg, ...")] = "fashion-mnist",
    train_path: Annotated[Optional[str], Option(help="Folder of training images, one sub-folder per class.")] = None,
    test_path: Annotated[Optional[str], Option(help="Folder of test images.")] = None,
    width: Annotated[Optional[float], Option(help="Factor on the channels of the source's network.")] = None,
    image_size: Annotated[int, Option(min=8, help="Larger images are reduced to this side, in pixels.")] = 16,
    images: Annotated[
        Optional[int], Option(min=1, help="Training images; by default 4,000, or 1,600 with --quick.")
    ] = None,
    epochs: Annotated[int, Option(min=1, help="Epochs of training with the penalty.")] = 3,
    finetune_epochs: Annotated[int, Option(min=1, help="Epochs after the cut.")] = 2,
    batch_size: Annotated[int, Option(min=1, help="Images per batch.")] = 32,
) -> Result:
    """Train with the penalty, cut below one threshold, fine-tune; compare with no penalty, index layers and scratch."""
    if net not in NETS and net != "all":
        raise InputError(f"no net {net!r}; known: {', '.join(NETS)}, all{nearest(net, NETS)}")
    counts = (images or 1_600, 1_000) if options.quick else (images or 4_000, 5_000)
    source = Images(data, *counts, image_size, batch_size, train_path, test_path)
    bench = ImageBench.open(source, options)
    training = Training(strength, epochs, finetune_epochs)
    rows: list[Row] = []
    for name, found in (QUICK if options.quick else NETS).items():
        if net in (name, "all"):
            case = replace(found, width=width or found.width, keep=keep or found.keep)
            case = case if index_layer else replace(case, stream=())
            rows += _Slimming(bench, name, case, training).rows()
    told = f"{bench.told}, {image_size} pixels wide; narrower networks, trained {epochs} epochs, fine-tuned "
    told += f"{finetune_epochs}. The source: all of CIFAR-10, 160 epochs and as many of fine-tuning"
    return Result(NAME, CLAIM, told, tuple(rows))


def strength_for(fall: float, steps: int) -> float:
    """Return the strength that lowers an unused scale by `fall` times its initial value in so many steps.

    Rates follow a cosine from `LR`, so they are half of it on average; momentum multiplies the effect of each step.

    >>> round(strength_for(1.0, 1000), 6)
    0.002
    """
    return fall * FIRST_SCALE * 2 * (1 - MOMENTUM) / (LR * steps)


@dataclass(frozen=True)
class _Slimming:
    """One network from training to fine-tuning."""

    bench: ImageBench
    name: str
    net: Net
    training: Training

    def rows(self) -> Iterator[Row]:
        """Yield rows: dense and cut, without and with the penalty; with index layers, if any; from scratch."""
        keep = f"{self.net.keep:.0%} of the channels"
        plain, row = self._dense("no penalty", 0.0)
        yield row
        yield self._tuned(f"no penalty, {keep}", plain, self._plan(plain))
        sparse, row = self._dense("penalty", self._strength)
        yield row
        made = self._plan(sparse)
        small = secateur.cut(sparse, made)
        yield self._tuned(f"penalty, {keep}", sparse, made)
        yield self._tuned(f"penalty, {keep}, least squares", sparse, made, "lsq")
        if self.net.stream:
            macs = made.after.macs
            yield self._tuned("penalty, by means", sparse, as_cheap(self._graph(sparse), macs, MEAN))
            picking = with_picks(sparse, *self.net.stream)
            yield self._tuned("penalty, index layers", picking, as_cheap(self._graph(picking), macs))
        fresh = scratch(small, self.bench.options.seed)
        total = self.training.epochs + self.training.finetune_epochs
        yield self._row("from scratch", fresh, scratch=self.bench.trained(fresh, total, LR))

    @property
    def _strength(self) -> float:
        told = self.training.strength
        return strength_for(self.net.fall, self.training.epochs * len(self.bench.data.train)) if told is None else told

    def _dense(self, name: str, strength: float) -> tuple[nn.Module, Row]:
        model = self.bench.built(self.net.build, width=self.net.width)
        with torch.no_grad():
            for scale in scales(model):
                scale.fill_(FIRST_SCALE)
        penalties = (ScaleL1(self._graph(model), strength),) if strength else ()
        accuracy = self.bench.trained(model, self.training.epochs, LR, penalties=penalties)
        return model, self._row(name, model, dense=accuracy, more={"scales": deciles(model), "strength": strength})

    def _graph(self, model: nn.Module) -> Graph:
        return secateur.trace(model, self.bench.example)

    def _plan(self, model: nn.Module) -> Plan:
        graph = self._graph(model)
        return below_threshold(graph, round(units_of(graph) * (1 - self.net.keep)))

    def _tuned(self, name: str, model: nn.Module, made: Plan, recover: str = "") -> Row:
        small = secateur.cut(model, made)
        if recover:
            recover_(small, self._graph(model), made, self.bench.calibration(), recover)
        after_cut = self.bench.accuracy(small)
        finetuned = self.bench.trained(small, self.training.finetune_epochs, FINETUNE_LR)
        return self._row(name, small, after_cut=after_cut, finetuned=finetuned, more={"channels": remains(made)})

    def _row(self, name: str, model: nn.Module, *, more: dict[str, object] | None = None, **metric: float) -> Row:
        return self.bench.row(f"{self.name}: {name}", model, more=more, **metric)


@dataclass(frozen=True)
class MeanScale:
    """The mean of |gamma| over the norms that scale a channel."""

    needs = frozenset[str]()
    norm = "none"

    def __call__(self, axis: AxisSlices) -> Tensor:
        return BatchNormScale()(axis) / axis.unit_sum("scale", lambda _, gamma: torch.ones_like(gamma)).clamp_min(1)


SUM, MEAN = "bn_scale/none", MeanScale()
"""Both equal the scale itself if a channel has one norm, as in the source."""


def below_threshold(graph: Graph, count: int, importance: str | Criterion = SUM) -> Plan:
    """Return the plan that cuts the `count` channels of the network with the smallest scales."""
    return secateur.plan(graph, drop=lowest(graph, score(graph, importance), count, least=LEAST))


def as_cheap(graph: Graph, macs: int, importance: str | Criterion = SUM) -> Plan:
    """Return the plan with the lowest threshold that leaves at most `macs`, or else the plan with the fewest MACs."""
    low, high = 0, units_of(graph) - sum(max(LEAST, axis.least) for axis in graph.axes)
    while low < high:
        middle = (low + high) // 2
        enough = below_threshold(graph, middle, importance).after.macs <= macs
        low, high = (low, middle) if enough else (middle + 1, high)
    return below_threshold(graph, low, importance)


def remains(made: Plan) -> dict[str, list[int]]:
    """Return the number of channels by axis, before and after."""
    return {name: [axis.size, axis.kept_count] for name, axis in made.axes.items()}


def scales(model: nn.Module) -> list[Tensor]:
    """Return the scale factors of all batch norms."""
    return [module.weight for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def deciles(model: nn.Module) -> list[float]:
    """Return the deciles of the scales, from the smallest to the largest."""
    sizes = torch.cat([scale.detach().abs() for scale in scales(model)])
    return [round(float(value), 4) for value in sizes.quantile(torch.linspace(0, 1, 11))]
