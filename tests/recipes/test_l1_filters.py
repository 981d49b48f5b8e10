"""The recipe of Li 2017: the sizes are those that the paper states; the rest on a narrow network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import secateur
import stripes
from secateur.data import cifar
from secateur.errors import InputError
from secateur.probing.points import Curve, Point
from secateur.recipes.framework import Options
from secateur.recipes.images import Images
from secateur.recipes.l1_filters import NETS, RATIOS, _given, bearing, run

PAPER = {  # table 1: what remains of the parameters and of the MACs, in percent
    ("vgg16", "A"): (36.0, 65.8),
    ("resnet56", "A"): (90.6, 89.6),
    ("resnet56", "B"): (86.3, 72.4),
    ("resnet110", "A"): (97.7, 84.1),
    ("resnet110", "B"): (67.6, 61.4),
}


@pytest.mark.parametrize(("net", "rates"), PAPER)
def test_rates_leave_what_the_paper_says(net: str, rates: str) -> None:
    model = NETS[net].build()
    graph = secateur.trace(model, torch.zeros(1, 3, 32, 32))
    made = secateur.plan(graph, select=list(NETS[net].rates[rates]), importance="l1")
    left = 100 * made.after.params / made.before.params, 100 * made.after.macs / made.before.macs
    assert left == pytest.approx(PAPER[net, rates], abs=0.15)


@pytest.mark.parametrize("net", NETS)
def test_the_sum_of_a_residual_stream_stays(net: str) -> None:
    graph = secateur.trace(NETS[net].build(width=0.25), torch.zeros(1, 3, 32, 32))
    made = secateur.plan(graph, select=[f"{NETS[net].only}: keep=0.5"])
    cut = {name for name, axis in made.dropped()}
    assert cut
    assert all(name.startswith(("features", "layer")) for name in cut)


def test_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stripes.given(monkeypatch)
    options = Options(out=tmp_path, say=lambda line: None)
    small: dict[str, Any] = {"data": "stripes", "width": 0.25, "epochs": 3, "batch_size": 16, "image_size": 8}
    result = run(options, net="resnet20", bears=1.0, **small)
    rows = {row.method: row for row in result.rows}
    assert list(rows) == ["dense", "measured", "measured, at random", "from scratch"]
    assert rows["measured"].params < rows["dense"].params
    assert rows["measured"].metric["finetuned"] >= rows["measured"].metric["after_cut"]
    assert len({row.macs for row in result.rows[1:]}) == 1
    assert set(result.more["sensitivity"]["layer1.0.conv1"]) == {"0.75", "0.5", "0.25"}
    assert "layer1.0.conv1" in (tmp_path / "sensitivity.html").read_text()


def test_layers_that_do_not_bear_it_are_spared() -> None:
    lost = {"layer1.0.conv1": (0.0, 0.01, 0.3), "layer2.0.conv1": (0.0, 0.05, 0.4), "layer3.0.conv1": (0.0, 0.02, 0.02)}
    curves = tuple(
        Curve({name: 16}, 16, tuple(Point(r, int(16 * r), 0.9 - d) for r, d in zip(RATIOS, losses, strict=True)))
        for name, losses in lost.items()
    )
    measured = secateur.Sensitivity(0.9, curves, True, RATIOS, {}, {})
    first, second, third = lost
    assert bearing(measured, 0.5, 0.02) == (
        f"axis={first}: keep=0.5",
        f"axis={second}: keep=1",
        f"axis={third}: keep=0.5",
    )
    assert bearing(measured, 0.2, 0.1) == (f"axis={first}: keep=1", f"axis={second}: keep=1", f"axis={third}: keep=0.2")


def test_an_unknown_net_is_refused() -> None:
    with pytest.raises(InputError, match=r"no net 'resnet57'; known: resnet20, .*; did you mean 'resnet56'"):
        run(Options(), net="resnet57")


def test_given_weights_are_for_these_images_alone() -> None:
    assert _given("resnet20", Images("mnist"), 1.0) is None
    assert _given("resnet20", Images("cifar10-jpeg"), 0.5) is None
    assert _given("resnet20", Images("cifar10-jpeg", side=16), 1.0) is None
    try:
        folder = cifar.find().parent
    except InputError as absent:
        pytest.skip(str(absent))
    assert _given("resnet56", Images("cifar10-jpeg"), 1.0) == folder / "resnet56_cifar10jpeg.safetensors"
    assert _given("resnet110", Images("cifar10-jpeg"), 1.0) is None
