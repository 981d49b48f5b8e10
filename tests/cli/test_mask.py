from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import secateur as library
from commands import SHAPE, Command
from secateur.masks import masks_of
from secateur.models import build_model


def test_a_masked_model_is_saved_with_its_masks(secateur: Command, dense: Path) -> None:
    out = secateur.folder / "o"
    text = secateur(
        "mask", secateur.net, "--weights", dense, *SHAPE, "--sparsity", "0.5", "--scope", "layer", "--out", out
    )
    assert "50.0 % of 1,900 weights are zero: unstructured, by magnitude, share of each layer" in text
    model = library.load(build_model(secateur.net), out / "model.safetensors")
    assert masks_of(model).sparsity == pytest.approx(0.5)
    assert secateur.json("count", out)["params"] == secateur.json("count", secateur.net, *SHAPE)["params"]


def test_rounds_of_masking_and_training(secateur: Command) -> None:
    out = secateur.folder / "o"
    arguments = ("--data", secateur.file("data"), "--steps", "3", "--finetune-epochs", "1", "--sparsity", "0.8")
    run = secateur.json("mask", secateur.net, *arguments, "--out", out)
    assert [round(one["sparsity"], 3) for one in run["rounds"]] == [0.563, 0.771, 0.8]
    assert all(0 <= one["after_finetuning"] <= 1 for one in run["rounds"])
    assert {**json.loads((out / "run.json").read_text()), "out": str(out)} == run
    assert "after fine-tuning" in secateur("mask", secateur.net, *arguments, "--out", out)


def test_dead_units_are_cut_and_zeros_hardened(secateur: Command, dense: Path) -> None:
    out = secateur.folder / "o"
    more = ("--sparsity", "0.97", "--cut-dead", "--harden", "--out", out)
    text = secateur("mask", secateur.net, "--weights", dense, *SHAPE, *more)
    found = re.search(r"cut (\d+) dead units?: parameters [\d,]+ -> ([\d,]+), MACs", text)
    assert found is not None
    cut = json.loads((out / "run.json").read_text())["cut"]
    assert cut["units"] == int(found[1]) > 0
    assert cut["params"]["after"] == int(found[2].replace(",", "")) == secateur.json("count", out)["params"]
    model = library.load(build_model(secateur.net), out / "model.safetensors")
    assert type(model.conv1).__name__ == "Conv2d"
    assert secateur.json("count", out)["params"] < secateur.json("count", secateur.net, *SHAPE)["params"]


@pytest.mark.parametrize("criterion", ["taylor", "wanda"])
def test_criteria_that_read_data(secateur: Command, criterion: str) -> None:
    out, data = secateur.folder / "o", ("--data", secateur.file("data"))
    secateur("mask", secateur.net, *data, "--criterion", criterion, "--pattern", "4x1", "--out", out)
    assert f"--criterion {criterion} needs data" in secateur.fails(
        "mask", secateur.net, *SHAPE, "--criterion", criterion, "--out", secateur.folder / "p"
    )


def test_a_run_with_masks_gets_sparser_ones(secateur: Command, dense: Path) -> None:
    first, second = secateur.folder / "o", secateur.folder / "p"
    secateur("mask", secateur.net, "--weights", dense, *SHAPE, "--sparsity", "0.5", "--out", first)
    run = secateur.json("mask", first, "--sparsity", "0.8", "--scope", "layer", "--out", second)
    assert run["rounds"][0]["sparsity"] == pytest.approx(0.8, abs=0.001)
    before, after = (
        masks_of(library.load(build_model(secateur.net), out / "model.safetensors")) for out in (first, second)
    )
    assert all(not (kept & ~before.masks[name]).any() for name, kept in after.masks.items())
    again = ("mask", second, "--out", secateur.folder / "q")
    assert "zero already, 0.5 is asked for in the first round" in secateur.fails(*again, "--sparsity", "0.5")
    assert "masks of this run have the pattern unstructured: give" in secateur.fails(*again, "--pattern", "2:4")
    assert "leave out --protect and --only" in secateur.fails(*again, "--protect", "head")


def test_what_is_refused(secateur: Command) -> None:
    run = ("mask", secateur.net, *SHAPE, "--out", secateur.folder / "o")
    assert "sparsity=1.5: the share of weights that are zero" in secateur.fails(*run, "--sparsity", "1.5")
    assert "pattern='3:4'" in secateur.fails(*run, "--pattern", "3:4")
    assert "the pattern 2:4 has one sparsity only" in secateur.fails(*run, "--pattern", "2:4", "--steps", "2")
    assert "training needs data: add --data" in secateur.fails(*run, "--finetune-epochs", "1")
    assert "no schedule is named 'cubc'" in secateur.fails(*run, "--steps", "2", "--schedule", "cubc")
    assert "no schedule is named 'cubc'" in secateur.fails(*run, "--schedule", "cubc")
    assert not (secateur.folder / "o").exists()
