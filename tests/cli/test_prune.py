from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import secateur as library
from commands import HALF, SHAPE, Command
from secateur.models import build_model, load_weights


def test_what_a_run_holds(small: Path) -> None:
    assert sorted(path.name for path in small.iterdir()) == ["model.safetensors", "run.json"]
    run = json.loads((small / "run.json").read_text())
    assert run["kind"] == "prune"
    assert run["input"] == "1x1x8x8"
    assert Path(run["model"]["spec"].rpartition(":")[0]).is_absolute()
    assert run["original"]["path"].endswith("dense.pt")


def test_the_saved_model_is_the_cut_of_the_original(secateur: Command, dense: Path, small: Path) -> None:
    original = build_model(secateur.net)
    load_weights(original, dense)
    pruned = library.prune(original, torch.zeros(1, 1, 8, 8), "macs=0.5").model.eval()
    loaded = library.load(build_model(secateur.net), small / "model.safetensors").eval()
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(pruned(x), loaded(x))


def test_the_table_comes_last(secateur: Command, dense: Path) -> None:
    text = secateur(
        "prune", secateur.net, "--weights", dense, *SHAPE, *HALF, "--verify", "--out", secateur.folder / "o"
    )
    assert "proved: pruned equals silenced" in text
    rows = text.rstrip().splitlines()[-5:]
    assert [row.split("  ")[0] for row in rows[1:]] == ["parameters", "MACs", "file size", "latency, batch 1"]


def test_random_weights_are_kept(secateur: Command) -> None:
    secateur("prune", secateur.net, *SHAPE, *HALF, "--out", secateur.folder / "o")
    assert (secateur.folder / "o" / "dense.safetensors").is_file()
    assert secateur("verify", secateur.folder / "o")


def test_the_whole_flow(secateur: Command, dense: Path) -> None:
    out = secateur.folder / "deep" / "run"
    data = ("--data", secateur.file("data"), "--finetune-epochs", "2", "--batch-size", "16", "--lr", "0.01")
    run = secateur.json("prune", secateur.net, "--weights", dense, *HALF, "--verify", *data, "--out", out)
    report, metrics = run["report"], run["metrics"]
    assert run["cut"]["verification"]["passed"] is True
    assert report["pruned"]["macs"] <= report["dense"]["macs"] / 2
    assert report["pruned"]["bytes"] == (out / "model.safetensors").stat().st_size
    slow, fast = (report[which]["latency_ms"]["median"] for which in ("dense", "pruned"))
    assert slow / fast == pytest.approx(report["speedup"])
    assert set(metrics) == {"metric", "before", "after_cut", "after_finetuning"}
    assert len(run["history"]["losses"]) == 2
    # The file has the same numbers as stdout, and the input was taken from the data.
    assert {**json.loads((out / "run.json").read_text()), "out": str(out)} == run
    assert run["input"] == "1x1x8x8"


def test_scores_are_rows_of_the_table(secateur: Command) -> None:
    arguments = ("--data", secateur.file("data"), "--finetune-epochs", "1", "--optimizer", "adamw")
    text = secateur("prune", secateur.net, *HALF, *arguments, "--out", secateur.folder / "o")
    assert "fine-tuning: trained 1 epoch (3 steps)" in text
    assert text.rstrip().splitlines()[-2].startswith("accuracy right after the cut")
    assert text.rstrip().splitlines()[-1].startswith("accuracy after fine-tuning")


def test_loss_and_metric_of_the_user(secateur: Command) -> None:
    arguments = ("--loss", secateur.file("loss"), "--metric", secateur.file("error"), "--finetune-epochs", "1")
    out = ("--out", secateur.folder / "o")
    run = secateur.json("prune", secateur.net, *HALF, "--data", secateur.file("data"), *arguments, *out)
    assert run["metrics"]["metric"] == "error"


def test_the_same_seed_gives_the_same_weights(secateur: Command) -> None:
    for out in ("a", "b"):
        arguments = ("--data", secateur.file("data"), "--finetune-epochs", "1", "--seed", "3", "--threads", "1")
        secateur("prune", secateur.net, *HALF, *arguments, "--out", secateur.folder / out)
    a, b = (
        library.load(build_model(secateur.net), secateur.folder / out / "model.safetensors").state_dict()
        for out in "ab"
    )
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_is_pruned_again(secateur: Command, small: Path) -> None:
    out = secateur.folder / "smaller"
    secateur("prune", small, "--target", "channels=0.7", "--verify", "--out", out)
    assert secateur("verify", out)
    assert secateur.json("count", out)["params"] < secateur.json("count", small)["params"]
    # Either plan is in the file, so a freshly built original becomes the smallest one.
    assert len(library.load(build_model(secateur.net), out / "model.safetensors").state_dict()) > 0


def test_a_second_prune_replaces_the_first(secateur: Command, small: Path, dense: Path) -> None:
    (small / "notes.txt").write_text("mine")
    secateur("prune", secateur.net, *SHAPE, "--target", "macs=0.9", "--out", small)
    assert sorted(p.name for p in small.iterdir()) == [
        "dense.safetensors",
        "model.safetensors",
        "notes.txt",
        "run.json",
    ]
    secateur("prune", secateur.net, "--weights", dense, *SHAPE, *HALF, "--out", small)
    assert sorted(p.name for p in small.iterdir()) == ["model.safetensors", "notes.txt", "run.json"]


WRONG = {
    "data": (["--data", "minst"], "no data 'minst'; known: mnist"),
    "path": (["--test-path", "x"], "train_path (--train-path) is missing; name a folder"),
    "underscore": (["--test_path", "x"], "train_path (--train-path) is missing; name a folder"),
    "epochs": (["--finetune-epochs", "1"], "training needs data: add --data mnist"),
    "target": (["--target", "macs=0.0001"], "cannot be reached: the smallest possible is"),
    "protect": (["--protect", "conv3"], "did you mean 'conv"),
    "optimizer": (["--optimizer", "adam"], "no optimizer 'adam'; known: sgd, adamw; did you mean 'adamw'?"),
    "lr": (["--lr", "-1"], "lr is -1.0; it must be above 0"),
    "device": (["--device", "abacus"], "--device abacus: "),
    "weights": (["--weights", "nowhere.pt"], "no weights file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options_leave_nothing(secateur: Command, files, case: str) -> None:  # type: ignore[no-untyped-def]
    arguments, message = WRONG[case]
    before = files()
    out = secateur.folder / "deep" / "run"
    assert message in secateur.fails("prune", secateur.net, *SHAPE, *HALF, *arguments, "--out", out)
    assert files() == before
    assert not out.parent.exists()


UNFIT = {
    "inputs": ("colour", [], ["cannot be evaluated on this data: RuntimeError", "inputs   (2, 3, 8, 8) float32"]),
    "empty": ("nothing", [], ["the test data have no batches"]),
    "targets": (
        "many",
        ["--finetune-epochs", "1"],
        ["label 99 is out of range: the model scores 4 classes, 0 to 3"],
    ),
    "metric": ("data", ["--metric", "FILE:build"], ["cannot be evaluated on this data: ", "(now build)"]),
    "loss": ("data", ["--loss", "FILE:los"], ["does not define 'los'; did you mean 'loss'"]),
}


@pytest.mark.parametrize("case", UNFIT)
def test_data_that_do_not_fit_the_model(secateur: Command, case: str) -> None:
    function, more, messages = UNFIT[case]
    more = [word.replace("FILE:", secateur.file("")) for word in more]
    out = secateur.folder / "o"
    message = secateur.fails(
        "prune", secateur.net, *SHAPE, *HALF, "--data", secateur.file(function), *more, "--out", out
    )
    for part in messages:
        assert part in message
    assert not out.exists()


BROKEN = {
    "other": (lambda path: torch.save(nn.Linear(3, 3).state_dict(), path), "does not fit the model Net"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:200]), "cannot be read as weights"),
    "hostile": (lambda path: torch.save({"weight": print}, path), "print"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_weights(secateur: Command, dense: Path, case: str) -> None:
    damage, message = BROKEN[case]
    damage(dense)
    out = secateur.folder / "o"
    assert message in secateur.fails("prune", secateur.net, "--weights", dense, *SHAPE, *HALF, "--out", out)
    assert not out.exists()


def test_an_unwritable_folder_is_found_before_the_work(secateur: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.models.build_model", lambda *_: pytest.fail("worked"))
    (secateur.folder / "file").write_text("")
    for out in (secateur.folder / "file", secateur.folder / "file" / "run", Path("/proc/nowhere/run")):
        message = secateur.fails("prune", secateur.net, *SHAPE, *HALF, "--out", out)
        assert f"--out {out} cannot be written: " in message


def test_the_folder_of_the_source_is_refused(secateur: Command, small: Path) -> None:
    message = secateur.fails("prune", small, "--target", "channels=0.9", "--out", small)
    assert f"--out {small} holds the weights that are read" in message
    assert secateur("verify", small)


def test_a_failed_proof_ends_with_1(secateur: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = library.Verification(silence=0.5, permutation=0.0, visible=1.0)
    monkeypatch.setattr(sys.modules["secateur.proof.verify"], "verify", lambda *_: wrong)
    out = secateur.folder / "o"
    message = secateur.fails("prune", secateur.net, *SHAPE, *HALF, "--verify", "--out", out, code=1)
    assert "the pruned model is not what the plan says; please report this model\nFAILED: pruned equals" in message
    assert not out.exists()


def test_outputs_that_show_nothing_prove_nothing(secateur: Command) -> None:
    out = secateur.folder / "o"
    message = secateur.fails("prune", secateur.file("mute"), *SHAPE, *HALF, "--verify", "--out", out, code=1)
    assert "not proved: silencing the dropped units changes the outputs by only" in message


def test_a_file_that_does_not_give_the_model_back_ends_with_1(
    secateur: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(model: nn.Module, path: Path) -> nn.Module:
        model = library.load(model, path)
        with torch.no_grad():
            next(model.parameters()).add_(1e-6)
        return model

    monkeypatch.setattr("secateur.files.model_file.load", spoilt)
    out = secateur.folder / "o"
    message = secateur.fails("prune", secateur.net, *SHAPE, *HALF, "--out", out, code=1)
    assert "the saved file does not restore the model: conv1.weight differs" in message
    assert not out.exists()


def test_a_missed_target_ends_with_1(secateur: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    uncut = library.count(build_model(secateur.net), torch.zeros(1, 1, 8, 8))
    monkeypatch.setattr(sys.modules["secateur.cost.count"], "count", lambda *_: uncut)
    message = secateur.fails("prune", secateur.net, *SHAPE, *HALF, "--out", secateur.folder / "o", code=1)
    assert "the target macs=0.5 is missed" in message


def test_a_target_is_met_to_the_last_digit(secateur: Command) -> None:
    for macs in (61_001, 61_007):
        run = secateur.json("prune", secateur.net, *SHAPE, "--target", f"macs={macs}", "--out", secateur.folder / "o")
        assert run["report"]["pruned"]["macs"] <= macs


def test_errors_are_json_too(secateur: Command) -> None:
    error = secateur.json("prune", secateur.net, *SHAPE, "--target", "macs", "--out", secateur.folder / "o", code=2)
    assert error["error"]["kind"] == "TargetError"
    assert "target 'macs'" in error["error"]["message"]


def test_random_weights_of_a_library_are_worth_a_warning(secateur: Command) -> None:
    pytest.importorskip("torchvision", reason="needs secateur[vision]")
    arguments = ("--input", "1x3x64x64", "--target", "channels=0.5", "--out", secateur.folder / "o")
    result = secateur.invoke("prune", "torchvision:squeezenet1_1", *arguments)
    assert result.exit_code == 0
    assert "warning: without --weights, the weights of torchvision:squeezenet1_1 are random" in result.stderr


def test_nothing_is_trained_where_nothing_is_cut(secateur: Command) -> None:
    out = secateur.folder / "o"
    arguments = ("--target", "macs=1.0", "--data", secateur.file("data"), "--finetune-epochs", "9", "--out", out)
    message = secateur.fails("prune", secateur.net, *arguments)
    assert "the target is already met: macs=1, so nothing is cut before fine-tuning" in message
    assert not out.exists()
