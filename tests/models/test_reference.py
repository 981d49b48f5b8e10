"""The reference networks of the recipes: each obeys the laws at small width, and has the size that its paper states."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import laws
import secateur
from secateur.errors import InputError
from secateur.models.cifar_resnet import cifar_resnet, resnet20, resnet56, resnet110
from secateur.models.densenet import densenet
from secateur.models.pick import with_picks
from secateur.models.preresnet import STREAM, preresnet
from secateur.models.vgg import vgg16, vgg_like

DATA = Path(__file__).parents[2] / "../shared/data"
IMAGE = torch.zeros(1, 3, 16, 16)


@dataclass(frozen=True)
class Case:
    """A network at small width, the axes it must have, and how many in all."""

    build: Callable[[], nn.Module]
    axes: dict[str, int]
    count: int


CASES = {
    "vgg_like": Case(partial(vgg_like, width=0.1), {"features.0": 6, "features.17": 26}, 6),
    "vgg16": Case(partial(vgg16, width=0.05, hidden=(16,)), {"features.0": 3, "classifier.0": 16}, 14),
    "resnet20": Case(partial(cifar_resnet, 20, width=0.5), {"conv1": 8, "layer1.0.conv1": 8, "layer3.2.conv1": 32}, 10),
    "bottlenecks": Case(partial(cifar_resnet, 11, bottleneck=True, width=0.25), {"conv1": 4, "layer1.0.conv2": 4}, 7),
    "preresnet": Case(partial(preresnet, 11, width=0.25), {"layer1.0.conv3": 16, "layer1.0.conv1": 4}, 10),
    "densenet": Case(partial(densenet, 10, width=0.5), {"conv1": 12, "dense1.0.conv1": 6}, 9),
    "picks": Case(lambda: with_picks(preresnet(11, width=0.25), *STREAM), {"layer2.0.bn1.0.index": 16}, 10),
}


@pytest.mark.parametrize("name", CASES)
def test_all_laws(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    laws.check_all(case.build, IMAGE, tmp_path / "pruned.safetensors", target="channels=0.6")


@pytest.mark.parametrize("name", CASES)
def test_axes(name: str) -> None:
    case = CASES[name]
    found = {axis.name: axis.size for axis in secateur.trace(case.build(), IMAGE).axes}
    assert case.axes.items() <= found.items()
    assert len(found) == case.count


SIZES = {  # millions of parameters and of MACs at 32 x 32: Li 2017, table 1, and Liu 2017, table 1
    "ResNet-56": (resnet56, 0.85, 125),
    "ResNet-110": (resnet110, 1.73, 253),
    "VGG-16": (partial(vgg16, hidden=(512,)), 15.0, 313),
    "PreResNet-164": (partial(preresnet, 164), 1.70, 249),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_of_the_papers(name: str) -> None:
    build, params, macs = SIZES[name]
    with torch.device("meta"):
        counted = secateur.count(build(), torch.zeros(1, 3, 32, 32))
    assert counted.params == pytest.approx(params * 1e6, rel=0.02)
    assert counted.macs == pytest.approx(macs * 1e6, rel=0.02)


@pytest.mark.parametrize(("build", "depth"), [(resnet20, 20), (resnet56, 56)])
def test_given_weights_fit(build: Callable[[], nn.Module], depth: int) -> None:
    path = DATA / f"resnet{depth}_cifar10jpeg.safetensors"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    assert str(build().load_state_dict(load_file(path))) == "<All keys matched successfully>"


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: cifar_resnet(52), "a ResNet of depth 52; depths are 6 n + 2: the nearest are 50 and 56"),
        (lambda: preresnet(10), "a PreResNet of depth 10; depths are 9 n + 2: the nearest are 11 and 20"),
        (lambda: densenet(41), "a DenseNet of depth 41; depths are 3 n + 4: the nearest are 40 and 43"),
        (lambda: vgg_like(width=0), "width is 0; it must be above 0"),
    ],
)
def test_what_no_network_has_is_refused(build: Callable[[], nn.Module], told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        build()
