from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch

from commands import Command
from secateur.cost.count import count
from secateur.recipes import masked, masked_convnet, masked_mlp
from secateur.recipes.framework import Options, Result, scratch
from secateur.recipes.masked import METHODS, MaskedCase, MaskedTraining, MaskedWorkshop
from squares import SQUARES

WIDTHS = {masked_mlp: [50, 100, 10], masked_convnet: [8, 16, 32, 10]}
SIZES = {masked_mlp: 784 * 50 + 50 + 50 * 100 + 100 + 100 * 10 + 10}
SIZES[masked_convnet] = 9 * 8 + 8 + 8 * 9 * 16 + 16 + 16 * 9 * 32 + 32 + 49 * 32 * 10 + 10

FEW = {"random": METHODS["random"], "l1 + lsq": {"importance": "l1", "recover": "lsq"}}
"""obs takes seconds on the convolutions' 3,136 inputs of the classifier."""

recipes = pytest.mark.parametrize("recipe", WIDTHS, ids=lambda recipe: recipe.NAME)


@pytest.fixture
def data(tmp_path: Path) -> str:
    (tmp_path / "squares.py").write_text(SQUARES)
    return f"{tmp_path}/squares.py:data"


def case(recipe: ModuleType) -> MaskedCase:
    build = recipe.MLP if recipe is masked_mlp else recipe.ConvNet
    return MaskedCase(build, torch.zeros(1, 1, 28, 28), recipe.WIDTHS)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masked, "METHODS", FEW)


@recipes
def test_the_widths_are_exact(recipe: ModuleType, data: str) -> None:
    shop = MaskedWorkshop.open(case(recipe), MaskedTraining(data, batch_size=8), Options())
    dense = shop.case.build()
    for how in (METHODS if recipe is masked_mlp else FEW).values():
        small = shop.pruned(dense, **how)
        shapes = [layer.output_shape[1] for layer in count(small, shop.case.example).layers if layer.output_shape]
        assert shapes == WIDTHS[recipe]
        assert sum(p.numel() for p in small.parameters()) == SIZES[recipe]


@recipes
@pytest.mark.usefixtures("few")
def test_a_run(recipe: ModuleType, data: str) -> None:
    said: list[str] = []
    found: Result = recipe.run(Options(say=said.append), data=data, epochs=5, finetune_epochs=1, batch_size=16)
    methods = {row.method: row for row in found.rows}
    assert list(methods) == ["dense", *FEW, "from scratch"]
    assert len(said) == len(methods)
    assert {row.params for name, row in methods.items() if name != "dense"} == {SIZES[recipe]}
    assert methods["dense"].metric["dense"] > 0.9
    assert methods["l1 + lsq"].metric.keys() == {"after_cut", "finetuned"}
    assert methods["l1 + lsq"].metric["after_cut"] >= methods["random"].metric["after_cut"]
    assert methods["from scratch"].metric.keys() == {"scratch"}


@pytest.mark.usefixtures("few")
def test_the_same_seed_gives_the_same_figures(data: str) -> None:
    rows = [
        masked_mlp.run(Options(seed=seed, say=lambda line: None), data=data, epochs=1, finetune_epochs=1, batch_size=8)
        for seed in (1, 1, 2)
    ]
    figures = [[row.metric for row in found.rows] for found in rows]
    assert figures[0] == figures[1] != figures[2]


def test_the_small_network_from_scratch_is_the_one_that_was_cut(data: str) -> None:
    shop = MaskedWorkshop.open(case(masked_mlp), MaskedTraining(data, batch_size=8), Options())
    small = shop.pruned(shop.case.build(), importance="l1")
    assert [p.shape for p in scratch(small).parameters()] == [p.shape for p in small.parameters()]


@recipes
@pytest.mark.usefixtures("few")
def test_from_the_command_line(tmp_path: Path, recipe: ModuleType, data: str) -> None:
    options = ("--data", data, "--epochs", 1, "--finetune_epochs", 1, "--batch-size", 8, "--seed", 1)
    found = Command(tmp_path).json("recipe", recipe.NAME, *options)
    assert (found["recipe"], found["seed"]) == (recipe.NAME, 1)
    assert found["rows"][1]["params"] == SIZES[recipe]
    assert "the source publishes no figures" in found["data"]
