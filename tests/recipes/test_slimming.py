"""The recipe of Liu 2017, on narrow networks and images that are learned at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import secateur
import stripes
from secateur.errors import InputError
from secateur.models.densenet import densenet
from secateur.models.pick import with_picks
from secateur.models.preresnet import STREAM, preresnet
from secateur.models.vgg import vgg16
from secateur.recipes.framework import Options, Result
from secateur.recipes.slimming import LEAST, MEAN, SUM, as_cheap, below_threshold, run, scales

IMAGE = torch.zeros(1, 3, 16, 16)
SMALL: dict[str, Any] = {"data": "stripes", "batch_size": 16, "epochs": 2}


def ran(net: str, **more: Any) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        stripes.given(patch)
        return run(Options(quick=True, say=lambda line: None), net=net, **SMALL, **more)


@pytest.mark.parametrize(
    ("net", "width", "keep", "picks"),
    [("vgg", 0.1, 0.4, False), ("preresnet", 0.25, 0.7, True), ("densenet", 0.25, 0.7, True)],
)
def test_rows(net: str, width: float, keep: float, picks: bool) -> None:
    rows = {
        row.method.removeprefix(f"{net}: "): row
        for row in ran(net, width=width, keep=keep, strength=1e-3, image_size=16 if net == "vgg" else 8).rows
    }
    share = f"{keep:.0%} of the channels"
    named = ["no penalty", f"no penalty, {share}", "penalty", f"penalty, {share}", f"penalty, {share}, least squares"]
    assert list(rows) == [
        *named,
        *(["penalty, by means", "penalty, index layers"] if picks else []),
        "from scratch",
    ]
    cut, recovered = rows[f"penalty, {share}"], rows[f"penalty, {share}, least squares"]
    assert recovered.metric["after_cut"] >= cut.metric["after_cut"]
    assert cut.metric["finetuned"] >= cut.metric["after_cut"]
    before, after = (sum(counts) for counts in zip(*cut.more["channels"].values(), strict=True))
    assert after / before == pytest.approx(keep, abs=0.02)
    if picks:
        assert rows["penalty, index layers"].macs <= cut.macs
        assert rows["penalty, by means"].macs <= cut.macs


def test_the_penalty_makes_scales_small() -> None:
    plain, _, pulled, *_ = ran("vgg", width=0.1, strength=0.02).rows
    assert pulled.more["scales"][5] < plain.more["scales"][5]


@pytest.mark.parametrize("build", [lambda: vgg16(width=0.1), lambda: preresnet(11), lambda: densenet(10)])
def test_no_layer_loses_all_of_its_channels(build: Any) -> None:
    """Where the original crashes: the scales of a layer lie below the threshold altogether."""
    model = build().eval()
    norms = scales(model)
    with torch.no_grad():
        norms[1].mul_(1e-3)
    graph = secateur.trace(model, IMAGE)
    made = below_threshold(graph, sum(axis.size - 2 for axis in graph.axes) * 9 // 10)
    assert min(axis.kept_count for axis in made.axes.values()) == LEAST
    assert secateur.cut(model, made)(IMAGE).shape == (1, 10)


def test_a_stream_is_judged_by_all_of_its_scales() -> None:
    model = preresnet(20, width=0.25)
    with torch.no_grad():
        for scale in scales(model):
            scale.uniform_(-1, 1)
    graph = secateur.trace(model, IMAGE)
    stream = next(axis for axis in graph.axes if axis.name == "layer1.0.conv3" and axis.size == 16)
    names = [use.name for use in stream.sites if use.role == "scale"]
    sums = torch.stack([model.get_parameter(name).detach().abs().double() for name in names]).sum(0)
    assert len(names) > 1
    torch.testing.assert_close(secateur.importance.score(graph, SUM)[stream.name], sums)
    torch.testing.assert_close(secateur.importance.score(graph, MEAN)[stream.name], sums / len(names))


@pytest.mark.parametrize("share", [0.9, 0.7, 0.5])
def test_as_cheap_is_the_least_cut_that_is(share: float) -> None:
    model = with_picks(preresnet(11, width=0.25), *STREAM)
    with torch.no_grad():
        for scale in scales(model):
            scale.uniform_(0, 1)
    graph = secateur.trace(model, IMAGE)
    limit = int(share * graph.total_macs)
    made = as_cheap(graph, limit)
    gone = sum(axis.size - axis.kept_count for axis in made.axes.values())
    assert made.after.macs <= limit < below_threshold(graph, gone - 1).after.macs


def test_images_too_small_are_refused() -> None:
    with pytest.raises(InputError, match=r"images of \(3, 8, 8\) do not fit this network: .*\n.* 16 or more"):
        ran("vgg", width=0.1, image_size=8)


def test_an_unknown_net_is_refused() -> None:
    with pytest.raises(InputError, match="no net 'resnet'; known: vgg, preresnet, densenet, all"):
        run(Options(), net="resnet")
