from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from commands import HALF, SHAPE, Command
from secateur.apply import recovered_
from secateur.files.model_file import load, save
from secateur.models import build_model
from secateur.plan.parts import Recovery


def spoil(run: Path, change: float = 1e-3) -> None:
    """Other values in the saved weights, the header as it was."""
    from safetensors import safe_open

    file = run / "model.safetensors"
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(file)
    tensors["conv1.weight"] += change
    save_file(tensors, file, metadata)


def test_a_run_is_proved(secateur: Command, small: Path) -> None:
    text = secateur("verify", small)
    assert "proved: pruned equals silenced" in text
    assert "the file is the cut of the original" in text
    assert "has identical outputs" in text


def test_the_file_of_a_run_is_enough(secateur: Command, small: Path) -> None:
    proof = secateur.json("verify", small / "model.safetensors")
    assert proof["passed"] is True
    assert proof["laws"]["passed"] is True
    assert proof["finetuned"] is False


def test_a_finetuned_run_is_proved_by_its_cut(secateur: Command, dense: Path) -> None:
    arguments = ("--data", secateur.file("data"), "--finetune-epochs", "1", "--out", secateur.folder / "o")
    secateur("prune", secateur.net, "--weights", dense, *HALF, *arguments)
    assert "has the structure of the plan (it was fine-tuned)" in secateur("verify", secateur.folder / "o")


def recover(run: Path, net: str) -> None:
    """Other weights in a run, as a recovery step leaves them."""
    model = load(build_model(net), run / "model.safetensors")
    plan = recovered_(model, recovery=[Recovery("lsq")])
    torch.nn.init.normal_(model.get_parameter("conv1.weight"))
    save(model, run / "model.safetensors")
    document = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**document, "plan": json.loads(plan.to_json())}))


def test_a_recovered_run_is_proved_by_its_cut(secateur: Command, small: Path) -> None:
    recover(small, secateur.net)
    text = secateur("verify", small)
    assert "weights were recovered by lsq; the cut before it was checked" in text
    assert "the file has the structure of the plan (it was recovered by lsq)" in text
    assert secateur.json("verify", small)["laws"]["recovered"] == ["lsq"]


def test_spoilt_weights_end_with_1(secateur: Command, small: Path) -> None:
    spoil(small)
    assert "FAILED: the saved model is not what the plan says: conv1.weight differs" in secateur(
        "verify", small, code=1
    )
    assert secateur.json("verify", small, code=1)["saved_differs"] == "conv1.weight differs"


def test_original_weights_that_have_changed(secateur: Command, small: Path, dense: Path) -> None:
    state = torch.load(dense, weights_only=True)
    state["state_dict"]["head.bias"] += 1
    torch.save(state, dense)
    assert f"the original weights {dense} have changed" in secateur.fails("verify", small)


def test_original_weights_that_were_moved(secateur: Command, small: Path, dense: Path) -> None:
    moved = dense.rename(dense.with_name("moved.pt"))
    assert f"the original weights {dense} are missing" in secateur.fails("verify", small)
    assert secateur("verify", small, "--weights", moved)


def test_a_folder_can_be_moved(secateur: Command) -> None:
    secateur("prune", secateur.net, *SHAPE, *HALF, "--out", secateur.folder / "o")
    shutil.move(secateur.folder / "o", secateur.folder / "p")
    assert secateur("verify", secateur.folder / "p")


def test_the_files_of_two_runs(secateur: Command, small: Path) -> None:
    other = secateur.folder / "o"
    secateur("prune", secateur.net, *SHAPE, "--target", "macs=0.8", "--out", other)
    shutil.copy(other / "model.safetensors", small)
    assert "run.json and model.safetensors are not of the same run" in secateur.fails("verify", small)


SPARSE = ("--sparsity", "0.6", "--scope", "layer", "--pattern", "4x1", "--cut-dead")


@pytest.mark.parametrize("more", [(), ("--harden",)])
def test_a_cut_of_dead_units_is_proved(secateur: Command, dense: Path, more: tuple[str, ...]) -> None:
    out = secateur.folder / "o"
    secateur("mask", secateur.net, "--weights", dense, *SHAPE, *SPARSE, *more, "--out", out)
    text = secateur("verify", out)
    assert "so they are dead: silencing the units that stay of their axes changes them by" in text
    assert "the file is the cut of the original" in text
    spoil(out)
    message = "FAILED: the saved model is not what the plan says: conv1.weight differs"
    assert message in secateur("verify", out, code=1)


@pytest.mark.parametrize("more", [(), ("--harden",)])
def test_a_cut_of_dead_units_of_a_pruned_run_is_proved(secateur: Command, small: Path, more: tuple[str, ...]) -> None:
    out = secateur.folder / "o"
    secateur("mask", small, *SPARSE, *more, "--out", out)
    assert secateur.json("verify", out)["laws"]["visible"] == 0


def test_masks_without_dead_units(secateur: Command) -> None:
    out = secateur.folder / "o"
    secateur("mask", secateur.net, *SHAPE, "--sparsity", "0.1", "--cut-dead", "--out", out)
    assert not (out / "dense.safetensors").exists()
    assert "was made by mask: nothing was cut, nothing to verify" in secateur.fails("verify", out)


def test_a_run_of_train(secateur: Command) -> None:
    secateur("train", secateur.net, "--data", secateur.file("data"), "--out", secateur.folder / "o")
    assert "was made by train: nothing was cut, nothing to verify" in secateur.fails("verify", secateur.folder / "o")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', '{"format": 99}', "\x00"])
def test_a_damaged_description(secateur: Command, small: Path, text: str) -> None:
    (small / "run.json").write_text(text)
    assert "run.json" in secateur.fails("verify", small)


def test_a_truncated_model(secateur: Command, small: Path) -> None:
    file = small / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "cannot be read" in secateur.fails("verify", small)


def test_a_model_that_is_gone(secateur: Command, small: Path) -> None:
    (small / "model.safetensors").unlink()
    assert "holds a run.json, but no model.safetensors" in secateur.fails("verify", small)


def test_no_run_at_all(secateur: Command) -> None:
    assert "is not the folder of a run: it holds no run.json" in secateur.fails("verify", secateur.folder)


def test_a_run_that_is_misspelt_gives_the_nearest(secateur: Command, small: Path) -> None:
    missing = small.with_name("smal")
    assert f"no run {missing}; did you mean 'small'?" in secateur.fails("verify", missing)


def test_a_plan_that_is_not_json_of_ours(secateur: Command, small: Path) -> None:
    run = json.loads((small / "run.json").read_text())
    run["plan"] = {"format": 1}
    (small / "run.json").write_text(json.dumps(run))
    assert "this is not a secateur plan" in secateur.fails("verify", small)
