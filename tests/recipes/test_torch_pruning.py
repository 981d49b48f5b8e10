from __future__ import annotations

import contextlib
import copy
import io
import re
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import secateur
from secateur.errors import InputError
from secateur.recipes import torch_pruning as recipe
from secateur.recipes.framework import Options, Row
from secateur.recipes.migration import ours
from secateur.recipes.migration.judge import NoPlan, judged, places
from secateur.recipes.migration.lessons import LESSONS, Attempt, body

pytest.importorskip("torchvision", reason="needs secateur[vision]")


def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "find_spec", lambda name: None)


def attempt(name: str, side: ModuleType) -> Attempt:
    return Attempt(LESSONS[name], side, *LESSONS[name].build(True))


@lru_cache
def row_of(name: str, side: ModuleType) -> tuple[Row, str]:
    return attempt(name, side).row(name)


@pytest.mark.parametrize("name", LESSONS)
def test_our_side_is_right(name: str) -> None:
    if name.startswith("bert"):
        pytest.importorskip("transformers", reason="needs secateur[hf]")
    row, printed = row_of(name, ours)
    assert row.more == {"right": "yes"}
    assert row.metric["error"] < 1e-9
    assert printed.startswith("plan ")


SLOW = {"resnet18-random", "resnet18-l1", "deeplabv3-l1"}
lessons = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in LESSONS]


@pytest.mark.parametrize("name", lessons)
def test_both_sides_do_the_same_job(name: str) -> None:
    pytest.importorskip("torch_pruning", reason="needs torch-pruning")
    if name.startswith("bert"):
        pytest.importorskip("transformers", reason="needs secateur[hf]")
    from secateur.recipes.migration import theirs

    (mine, _), (other, _) = (row_of(name, side) for side in (ours, theirs))
    assert mine.metric["lines"] < other.metric["lines"]
    assert mine.params == pytest.approx(other.params, rel=0.01)
    assert mine.macs == pytest.approx(other.macs, rel=0.01)
    # Its attention divides by the root of the head size that is left; ours keeps the function.
    assert (other.more["right"] == "yes") is (name != "vit-l2")


def test_without_torch_pruning_our_side_runs_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alone(monkeypatch)
    said: list[str] = []
    found = recipe.run(Options(quick=True, out=tmp_path, say=said.append), lesson=["resnet18-by-hand"])
    assert [row.method for row in found.rows] == ["resnet18-by-hand, dense", "resnet18-by-hand, secateur"]
    assert "torch-pruning is not installed, so our side runs alone; pip install torch-pruning==1.6.1" in found.data
    assert said[0] in found.data
    assert "conv1" in (tmp_path / "resnet18-by-hand-secateur.txt").read_text()
    assert "right" in str(found).splitlines()[3]


def test_an_unknown_lesson() -> None:
    with pytest.raises(InputError, match="no lesson 'resnet18'; did you mean 'resnet18-l"):
        recipe.run(Options(quick=True), lesson=["resnet18"])


def test_a_side_that_fails_is_a_row() -> None:
    def fails(model: nn.Module, example_inputs: torch.Tensor) -> None:
        raise ZeroDivisionError("by zero")

    side = ModuleType("side")
    side.by_hand = fails  # type: ignore[attr-defined]
    row, _ = attempt("resnet18-by-hand", side).row("r")
    assert row.more == {"right": "fails: ZeroDivisionError: by zero"}
    assert "error" not in row.metric


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten()]
    layers += [nn.Linear(6 * 4, 5), nn.ReLU(), nn.Linear(5, 2)]
    model = nn.Sequential(*layers).double().eval()
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.data.uniform_(0.1, 1.0)
    return model


X = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def cut(drop: dict[str, list[int]]) -> nn.Module:
    graph = secateur.trace(net(), X)
    return secateur.cut(net(), secateur.plan(graph, drop=drop))


def test_what_stayed_is_read_off_the_weights() -> None:
    stayed = places(net(), cut({"0": [1, 4]}))
    assert stayed["0.weight"][0] == [0, 2, 3, 5]
    assert stayed["4.weight"][1] == [4 * unit + place for unit in (0, 2, 3, 5) for place in range(4)]


@pytest.mark.parametrize("drop", [{"0": [1, 4]}, {"4": [0]}, {"0": [0, 1, 2], "4": [2, 3]}])
def test_a_right_cut_is_right(drop: dict[str, list[int]]) -> None:
    found = judged(net(), cut(drop), X)
    assert found.passed, str(found)


def test_other_units_in_the_next_layer_are_found() -> None:
    small, other = cut({"0": [1, 4]}), cut({"0": [2, 4]})
    small[4].weight.data = other[4].weight.data
    with pytest.raises(NoPlan, match=r"4\.weight\[1\] lost other units than the layers around it"):
        judged(net(), small, X)


def test_units_in_another_order_are_found() -> None:
    small = cut({"0": [1, 4]})
    small[1].running_mean = small[1].running_mean.flip(0)
    with pytest.raises(NoPlan, match=r"1\.running_mean\[0\] lost other units"):
        judged(net(), small, X)


def test_numbers_that_were_not_there_are_found() -> None:
    small = cut({"0": [1, 4]})
    small[0].weight.data[0] += 1
    with pytest.raises(NoPlan, match=r"0\.weight holds numbers that the original does not"):
        judged(net(), small, X)


def test_weights_that_changed_in_place_are_wrong() -> None:
    small = cut({"0": [1, 4]})
    small[6].weight.data *= 2
    assert not judged(net(), small, X).passed


def test_the_body_is_what_one_types() -> None:
    def job(model: nn.Module) -> nn.Module:
        twin = copy.deepcopy(
            model,
        )
        print(twin)
        return twin

    assert body(job) == "twin = copy.deepcopy(\n    model,\n)\nprint(twin)"


PAGE = Path(__file__).parents[2] / "docs" / "recipes" / "torch-pruning.md"
JOBS = {lesson.job: lesson for lesson in LESSONS.values()}


@pytest.mark.parametrize("job", JOBS)
def test_our_side_of_the_page_runs_as_written(job: str) -> None:
    if job == "bert":
        pytest.importorskip("transformers", reason="needs secateur[hf]")
    section = PAGE.read_text(encoding="utf-8").partition(f"<!-- code {job} -->")[2].partition("<!-- end -->")[0]
    theirs, mine = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert "import torch_pruning as tp" in theirs
    assert body(getattr(ours, job)) in mine
    model, inputs = JOBS[job].build(True)
    known = {"model": model, "example_inputs": inputs}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(mine, known)
    assert isinstance(known["pruned"], secateur.Pruned)
    assert printed.getvalue().startswith("plan ")
