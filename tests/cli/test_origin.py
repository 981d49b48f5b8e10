from __future__ import annotations

from pathlib import Path

import pytest
import torch

from commands import SHAPE, Command
from secateur.cli.options import ModelOptions
from secateur.cli.origin import ModelOrigin, open_model, origin_of

VISION = "needs secateur[vision]"


def test_the_same_recipe_gives_the_same_random_weights(secateur: Command) -> None:
    first, again, other = (ModelOrigin(secateur.net, seed=seed).build().state_dict() for seed in (1, 1, 2))
    assert torch.equal(first["head.weight"], again["head.weight"])
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_building_leaves_the_random_state(secateur: Command) -> None:
    before = torch.random.get_rng_state()
    ModelOrigin(secateur.net).build()
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_relative_path_becomes_absolute(secateur: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(secateur.folder)
    assert origin_of(ModelOptions("nets.py:build")).spec == secateur.net


def test_inputs_that_libraries_are_known_to_take() -> None:
    pytest.importorskip("torchvision", reason=VISION)
    assert open_model(ModelOptions("torchvision:squeezenet1_1")).input == "1x3x224x224"


def test_inputs_that_timm_tells() -> None:
    pytest.importorskip("timm", reason="needs secateur[timm]")
    assert open_model(ModelOptions("timm:test_resnet")).input == "1x3x160x160"


WRONG = {
    "torchvision": (["torchvision:resnet19"], "torchvision has no model 'resnet19'; did you mean 'resnet18'"),
    "timm": (["timm:resnet19"], "timm has no model 'resnet19'; did you mean 'resnet"),
    "library": (["torchvison:resnet18"], "is not a model; write torchvision:NAME"),
    "function": (["FILE:bild"], "does not define 'bild'; did you mean 'build'?"),
    "file": (["FOLDER/net.py:build"], "net.py; did you mean 'nets.py'?"),
    "word": (["resnet18"], "'resnet18' is not a model or the folder of a run"),
    "weights": (["dense.pt"], "dense.pt may hold weights, but they do not say how the model is built"),
    "folder": (["FOLDER"], "is not the folder of a run: it holds no run.json"),
    "input": (["FILE:build"], "give its shape: --input 1x3x224x224"),
    "shape": (["FILE:build", "--input", "1,1,8,8x"], "is not an input shape; write positive sizes joined by x"),
    "dtype": (["FILE:build", "--input", "1x1x8x8:int9"], "unknown dtype 'int9'"),
    "argument": (["FILE:build", *SHAPE, "--model-arg", "widht=3"], "did you mean 'width'?"),
    "value": (["FILE:build", *SHAPE, "--model-arg", "width"], "'width' is not an argument; write NAME=VALUE"),
}


@pytest.mark.parametrize("case", WRONG)
def test_no_model(secateur: Command, case: str) -> None:
    arguments, message = WRONG[case]
    if case in ("torchvision", "timm"):
        pytest.importorskip(case)
    places = {"FILE:": secateur.file(""), "FOLDER": str(secateur.folder)}
    for word, place in places.items():
        arguments = [argument.replace(word, place) for argument in arguments]
    assert message in secateur.fails("count", *arguments)


def test_a_run_that_is_misspelt_gives_the_nearest(secateur: Command, small: Path) -> None:
    message = secateur.fails("count", str(small).replace("small", "smal"))
    assert "is not a model or the folder of a run; did you mean 'small'?" in message


def test_a_run_has_its_own_arguments(secateur: Command, small: Path) -> None:
    message = secateur.fails("count", small, "--model-arg", "width=3")
    assert "is a saved run and has its arguments stored; leave out --model-arg" in message


def test_weights_may_be_those_of_a_pruned_model(secateur: Command, small: Path) -> None:
    counted = secateur.json("count", secateur.net, *SHAPE, "--weights", small / "model.safetensors")
    assert counted == secateur.json("count", small)
