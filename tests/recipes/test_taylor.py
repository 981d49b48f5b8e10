"""The recipe of Molchanov 2017, on a narrow network and images that are learned at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file

import secateur
import stripes
from secateur.errors import InputError
from secateur.models.vgg import vgg_like
from secateur.recipes.framework import Options, Result
from secateur.recipes.taylor import LEAST, Rounds, run

SMALL: dict[str, Any] = {"data": "stripes", "width": 0.15, "batch_size": 16, "epochs": 4}


@pytest.fixture(autouse=True)
def _data(monkeypatch: pytest.MonkeyPatch) -> None:
    stripes.given(monkeypatch)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    with pytest.MonkeyPatch.context() as patch:
        stripes.given(patch)
        out = tmp_path_factory.mktemp("taylor")
        return run(Options(out=out, say=lambda line: None), **SMALL, filters=20), out


def test_rows(found: tuple[Result, Path]) -> None:
    rows = {row.method: row for row in found[0].rows}
    assert list(rows) == ["dense", "random", "l1", "taylor", "taylor, in one round", "from scratch"]
    assert rows["dense"].metric["dense"] > 0.9
    assert rows["taylor"].metric["finetuned"] >= rows["taylor"].metric["after_cut"]
    assert rows["taylor"].metric["finetuned"] > 0.9
    assert rows["from scratch"].params == rows["taylor"].params


def test_rounds_drop_what_they_say(found: tuple[Result, Path]) -> None:
    """134 filters; two thirds of them in rounds of 20."""
    result, out = found
    taylor = next(row for row in result.rows if row.method == "taylor")
    assert len(taylor.more["rounds"]) == 4
    small = secateur.load(vgg_like(width=0.15, num_classes=3), out / "pruned.safetensors")
    widths = [conv.out_channels for conv in small.features if hasattr(conv, "out_channels")]
    assert sum(widths) == 134 - 4 * 20
    assert min(widths) >= LEAST


def test_training_and_pruning_apart_give_the_same(found: tuple[Result, Path], tmp_path: Path) -> None:
    options = Options(out=tmp_path, say=lambda line: None)
    trained = run(options, train=True, **SMALL, filters=20)
    assert [row.method for row in trained.rows] == ["dense"]
    pruned = run(options, prune=True, **SMALL, filters=20)
    assert pruned.rows == found[0].rows


def test_image_folders(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for kind, grey in (("cats", 40), ("dogs", 220)):
            folder = tmp_path / split / kind
            folder.mkdir(parents=True)
            for number in range(6):
                Image.new("L", (20, 20), grey + number).save(folder / f"{number}.png")
    paths = {"train_path": str(tmp_path / "train"), "test_path": str(tmp_path / "test")}
    result = run(Options(out=tmp_path, say=lambda line: None), train=True, **paths, width=0.1, epochs=2, batch_size=4)
    assert result.rows[0].metric["dense"] >= 0.5
    assert f"12 training and 12 test images of the folder {paths['train_path']}" in result.data


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"net": "vgg_16"}, "no net 'vgg_16'; known: vgg, vgg16; did you mean 'vgg16' or 'vgg'?"),
        (
            {"train": True},
            "--train alone needs a folder for the trained weights, and saves them there: add --out FOLDER",
        ),
        ({"prune": True}, "--prune alone needs a folder for the trained weights, and loads them from there"),
    ],
)
def test_what_cannot_be_run_is_refused(flags: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as raised:
        run(Options(say=lambda line: None), **SMALL, **flags)
    assert told in str(raised.value)


def test_pruning_before_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"dense.safetensors does not exist; train first: secateur recipe taylor --train"
    ):
        run(Options(out=tmp_path, say=lambda line: None), **SMALL, prune=True)


def test_some_classes_are_told_apart_by_a_network_that_learned_all(tmp_path: Path) -> None:
    said: list[str] = []
    rows = run(Options(out=tmp_path, say=said.append), **SMALL, train=True, classes="2,0").rows
    assert rows[0].metric["dense"] > 0.9
    assert said[0].startswith("all classes: ")
    vgg_like(width=0.15, num_classes=2).load_state_dict(load_file(tmp_path / "dense.safetensors"))


def test_weights_to_start_from(tmp_path: Path) -> None:
    run(Options(out=tmp_path, say=lambda line: None), **SMALL, train=True)
    said: list[str] = []
    start = tmp_path / "dense.safetensors"
    result = run(
        Options(out=tmp_path / "..", say=said.append),
        **{**SMALL, "epochs": 1},
        train=True,
        pretrained=start,
        classes="0,1",
    )
    assert said[0] == f"{start}: 36 of 38 tensors fit"
    assert result.rows[0].metric["dense"] > 0.9
    assert f"starting from {start}" in result.data


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ("cat,dog", "--classes cat,dog; write numbers separated by commas, such as 3,5"),
        ("1", "classes 1; give two or more different ones"),
        ("1,7", r"no examples of class 7; there are \[0, 1, 2\]"),
    ],
)
def test_classes_that_are_not_there_are_refused(classes: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        run(Options(say=lambda line: None), **SMALL, classes=classes)


def test_rounds_are_counted_from_what_remains() -> None:
    assert Rounds.of(4224, 1 / 3, None, 10) == Rounds(5, 512, 10)
    assert list(Rounds(3, 8, 2)) == [(1, 2), (2, 2), (3, 4)]
    with pytest.raises(InputError, match=r"keep=0.99 of 100 filters is less than one round of 12; give fewer filters"):
        Rounds.of(100, 0.99, None, 1)
