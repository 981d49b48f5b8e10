from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import secateur as library
from commands import HALF, Command
from secateur.models import build_model
from secateur.train.underway import UnderWay


class KilledError(BaseException):
    """Ends a command as nothing but a kill does: no handler of the command line sees it."""


def kill_after(patch: pytest.MonkeyPatch, steps: int, error: type[BaseException] = KilledError) -> None:
    done, real = [0], UnderWay._step

    def step(self: Any, group: Any) -> None:
        if done[0] == steps:
            raise error
        done[0] += 1
        real(self, group)

    patch.setattr(UnderWay, "_step", step)


def killed(secateur: Command, steps: int, *arguments: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, steps)
        with pytest.raises(KilledError):
            secateur.invoke(*arguments, env={"COLUMNS": "200"})


def weights(secateur: Command, out: Path) -> dict[str, torch.Tensor]:
    return library.load(build_model(secateur.net), out / "model.safetensors").state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


COMMANDS = {
    "train": ["train", "--epochs", "3"],
    "prune": ["prune", *HALF, "--finetune-epochs", "3"],
    "loop": ["prune", *HALF, "--finetune-epochs", "1", "--steps", "3", "--schedule", "cubic"],
}
FLAGS = ["--lr", "0.01", "--warmup", "1", "--penalty", "scale_l1=1e-3", "--clip", "1", "--mixed-precision", "bf16"]


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize("kills", [[2], [5, 2], [8]])
def test_a_killed_command_goes_on_to_the_same_weights(secateur: Command, kind: str, kills: list[int]) -> None:
    command, *more = COMMANDS[kind]
    arguments = [command, secateur.net, "--data", secateur.file("data"), "--batch-size", "8", *more, *FLAGS]
    whole, out = secateur.folder / "whole", secateur.folder / "out"
    secateur(*arguments, "--out", whole)
    for steps in kills:
        killed(secateur, steps, *arguments, "--out", out, "--checkpoint-every", "2", "--resume")
    assert not (out / "run.json").exists()
    secateur(*arguments, "--out", out, "--checkpoint-every", "2", "--resume")
    assert same(weights(secateur, whole), weights(secateur, out))
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in whole.iterdir())


def test_leftovers_are_not_gone_on_from_by_chance(secateur: Command) -> None:
    arguments = ["train", secateur.net, "--data", secateur.file("data"), "--checkpoint-every", "1"]
    out = secateur.folder / "o"
    killed(secateur, 2, *arguments, "--out", out)
    message = secateur.fails(*arguments, "--out", out)
    assert f"--out {out} holds checkpoints of a run that did not end, the last after step 2" in message
    assert f"add --resume to continue it, or delete {out}/.checkpoints to start over" in message


def test_another_run_is_not_gone_on_with(secateur: Command) -> None:
    arguments = ["train", secateur.net, "--data", secateur.file("data"), "--checkpoint-every", "1", "--resume"]
    out = secateur.folder / "o"
    killed(secateur, 2, *arguments, "--out", out)
    message = secateur.fails(*arguments, "--lr", "0.5", "--out", out)
    assert "continuing" not in message
    assert "step-000000002 belongs to another run\n      there  here\n  lr  0.02   0.5\n" in message
    assert "\n  --batch-size  64     9\n" in secateur.fails(*arguments, "--batch-size", "9", "--out", out)
    result = secateur.invoke(*arguments, "--out", out)
    assert result.exit_code == 0
    assert "warning: continuing after step 2" in result.stderr


def test_an_interrupted_run_says_how_it_goes_on(secateur: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    out = secateur.folder / "o"
    arguments = ["train", secateur.net, "--data", secateur.file("data"), "--checkpoint-every", "2", "--out", out]
    going_on = "the same command with --resume continues after step 2"
    for steps, message in ((0, "nothing was written"), (2, going_on)):
        with monkeypatch.context() as patch:
            kill_after(patch, steps, KeyboardInterrupt)
            result = secateur.invoke(*arguments)
        assert result.exit_code == 130
        assert f"warning: interrupted; {message}" in result.stderr
    assert [path.name for path in out.iterdir()] == [".checkpoints"]


def test_a_full_disk(secateur: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    def save_file(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", save_file)
    out = secateur.folder / "o"
    arguments = ("--data", secateur.file("data"), "--checkpoint-every", "1", "--out", out)
    message = secateur.fails("train", secateur.net, *arguments)
    assert f"the checkpoint after step 1 cannot be written to {out}/.checkpoints: No space left on device" in message


def test_the_dense_model_teaches(secateur: Command) -> None:
    """Of a loss that is all the teacher's, labels say nothing."""
    out = [secateur.folder / name for name in "ab"]
    tuning = ("--finetune-epochs", "2", "--distill", "1", "--temperature", "2", "--feature", "conv2", "--lr", "0.01")
    for folder, data in zip(out, ("data", "flipped"), strict=True):
        (secateur.folder / "nets.py").write_text((secateur.folder / "nets.py").read_text() + FLIPPED)
        secateur("prune", secateur.net, *HALF, "--data", secateur.file(data), *tuning, "--out", folder)
    assert same(*(weights(secateur, folder) for folder in out))


FLIPPED = """

def flipped(split, batch_size):
    for x, y in data(split, batch_size):
        yield x, 1 - y
"""


def test_a_run_teaches(secateur: Command, small: Path) -> None:
    arguments = ("train", secateur.net, "--data", secateur.file("data"))
    assert secateur(*arguments, "--teacher", small, "--out", secateur.folder / "o")
    message = secateur.fails(*arguments, "--distill", "0.5", "--out", secateur.folder / "p")
    assert "--distill needs a teacher: add --teacher MODEL" in message


def test_a_log_lies_in_the_run(secateur: Command) -> None:
    pytest.importorskip("tensorboard", reason="needs secateur[log]")
    out = secateur.folder / "o"
    secateur("train", secateur.net, "--data", secateur.file("data"), "--log", "tensorboard", "--out", out)
    assert sorted(path.name for path in out.iterdir()) == ["logs", "model.safetensors", "run.json"]
    assert len(list((out / "logs").iterdir())) == 1


def test_options_are_remembered(secateur: Command) -> None:
    flags = ("--accumulate", "2", "--clip", "0.5", "--warmup", "3", "--finetune-epochs", "1")
    out = secateur.folder / "o"
    run = secateur.json("prune", secateur.net, *HALF, "--data", secateur.file("data"), *flags, "--out", out)
    options = run["history"]["options"]
    assert (options["warmup"], options["gradients"]) == (3, {"accumulate": 2, "clip": 0.5})
    assert run["history"]["steps"] == 2
    assert json.loads((out / "run.json").read_text())["history"] == run["history"]


WRONG: dict[str, tuple[list[str], str]] = {
    "precision": (["--mixed-precision", "bf61"], "no mixed_precision 'bf61'; known: no, bf16, fp16"),
    "fp16": (["--mixed-precision", "fp16"], "'fp16', which device cpu does not train in; write 'bf16'"),
    "penalty": (["--penalty", "scale_l2=1"], "no penalty 'scale_l2'; known: scale_l1, group_lasso; did you mean"),
    "strength": (["--penalty", "scale-l1=much"], "'much' is not a number; write --penalty scale_l1=1e-4"),
    "accumulate": (["--accumulate", "0"], "accumulate is 0; it must be at least 1"),
    "clip": (["--clip", "-1"], "clip is -1.0; it must be above 0"),
    "warmup": (["--warmup", "-1"], "warmup is -1; it is a number of steps"),
    "distill": (["--distill", "2", "--teacher", "NETS:build"], "weight is 2.0; it is the teacher's share of the loss"),
    "feature": (["--feature", "conv1"], "--feature needs a teacher: add --distill 0.5, or --teacher MODEL"),
    "features": (["--teacher", "NETS:build", "--feature", "conv9"], "--feature names 'conv9', which Net does not have"),
    "log": (["--log", "tensorbord"], "no log 'tensorbord'; known: tensorboard, trackio"),
    "labels": (["--data", "NETS:many"], "label 99 is out of range: the model scores 4 classes, 0 to 3"),
    "no data": (["--data", "NETS:nothing"], "the test data have no batches"),
    "nan": (["--lr", "1e30"], "the loss is "),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_leaves_nothing(secateur: Command, case: str) -> None:
    more, message = WRONG[case]
    more = [word.replace("NETS:", secateur.file("")) for word in more]
    out = secateur.folder / "o"
    arguments = ["--data", secateur.file("data"), "--epochs", "3", *more, "--out", out]
    assert message in secateur.fails("train", secateur.net, *arguments)
    assert not out.exists()


@pytest.mark.parametrize(
    "flags", [["--resume"], ["--distill", "0.5"], ["--checkpoint-every", "5"], ["--log", "trackio"]]
)
def test_flags_of_training_where_nothing_is_trained(secateur: Command, flags: list[str]) -> None:
    message = secateur.fails("prune", secateur.net, *HALF, *flags, "--out", secateur.folder / "o")
    assert f"{flags[0]} applies to training, but nothing is trained: add --finetune-epochs" in message
