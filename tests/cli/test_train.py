from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import secateur as library
from commands import Command
from secateur.models import build_model


def test_a_run_of_train(secateur: Command) -> None:
    out = secateur.folder / "o"
    text = secateur("train", secateur.net, "--data", secateur.file("data"), "--epochs", "2", "--out", out)
    assert "trained 2 epochs (6 steps)" in text
    assert "accuracy" in text
    assert sorted(path.name for path in out.iterdir()) == ["model.safetensors", "run.json"]
    assert secateur.json("count", out)["macs"]


def test_json_is_what_the_folder_holds(secateur: Command) -> None:
    out = secateur.folder / "o"
    run = secateur.json(
        "train", secateur.net, "--data", secateur.file("data"), "--out", out, "--metric", secateur.file("error")
    )
    assert {**json.loads((out / "run.json").read_text()), "out": str(out)} == run
    assert run["metrics"]["metric"] == "error"
    assert run["input"] == "1x1x8x8"


def test_training_goes_on_from_weights(secateur: Command, dense: Path) -> None:
    out = secateur.folder / "o"
    secateur("train", secateur.net, "--weights", dense, "--data", secateur.file("data"), "--lr", "1e-12", "--out", out)
    state = torch.load(dense, weights_only=True)["state_dict"]
    trained = library.load(build_model(secateur.net), out / "model.safetensors").state_dict()
    assert torch.allclose(trained["conv2.weight"], state["conv2.weight"], atol=1e-6)


def test_a_pruned_run_is_trained_further(secateur: Command, small: Path) -> None:
    out = secateur.folder / "o"
    secateur("train", small, "--data", secateur.file("data"), "--out", out)
    assert secateur.json("count", out)["params"] == secateur.json("count", small)["params"]


def test_model_arguments_are_remembered(secateur: Command) -> None:
    out = secateur.folder / "o"
    more = ("--model-arg", "width=6", "--model-arg", "num_classes=2")
    secateur("train", secateur.net, *more, "--data", secateur.file("data"), "--out", out)
    assert json.loads((out / "run.json").read_text())["model"]["args"] == {"width": 6, "num_classes": 2}
    assert secateur.json("count", out)["layers"][0]["output_shape"] == [1, 6, 8, 8]


def test_training_without_data(secateur: Command) -> None:
    assert "training needs data: add --data mnist" in secateur.fails(
        "train", secateur.net, "--out", secateur.folder / "o"
    )


def test_a_rate_that_is_too_high(secateur: Command) -> None:
    arguments = ("--data", secateur.file("data"), "--lr", "1e30", "--epochs", "3", "--out", secateur.folder / "o")
    message = secateur.fails("train", secateur.net, *arguments)
    assert "the loss is nan" in message or "the loss is inf" in message
    assert "--lr 1e+29" in message
    assert not (secateur.folder / "o").exists()


@pytest.fixture
def images(secateur: Command) -> Path:
    image = pytest.importorskip("PIL.Image", reason="needs secateur[vision]")
    for split in ("train", "test"):
        for name, colour in (("cat", 0), ("dog", 255)):
            (secateur.folder / split / name).mkdir(parents=True)
            for i in range(2):
                image.new("RGB", (9, 9), (colour, i, i)).save(secateur.folder / split / name / f"{i}.png")
    (secateur.folder / "colour.py").write_text(COLOUR)
    return secateur.folder


COLOUR = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
"""


@pytest.mark.parametrize("spelling", ["--train-path --test-path", "--train_path --test_path"])
def test_folders_of_images(secateur: Command, images: Path, spelling: str) -> None:
    train, test = spelling.split()
    flags = [train, images / "train", f"{test}={images / 'test'}", "--image_size", "8", "--batch_size", "2"]
    run = secateur.json("train", f"{images}/colour.py:build", *flags, "--out", images / "o")
    assert (run["history"]["steps"], run["input"]) == (2, "1x3x8x8")


def test_folders_that_cannot_be(secateur: Command, images: Path) -> None:
    def fails(*flags: object) -> str:
        return secateur.fails("train", f"{images}/colour.py:build", *flags, "--out", images / "o")

    assert "test_path (--test-path) is missing" in fails("--train-path", images / "train")
    assert "train_path (--train-path) is missing" in fails("--test-path", images / "test")
    assert "does not contain a folder 'train', but 'cat', 'dog'" in fails("--data", images / "train")
    assert "image_size is 0; it must be at least 1" in fails("--data", images, "--image-size", "0")
