"""The accuracy benchmarks: rows that are found again, subsets that are fair, and an incumbent that cuts what it may."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from accuracy import cifar, results, task
from secateur.models.cifar_resnet import ResidualBlock

INNER = {"1.conv1.weight", "1.bn1.weight", "1.bn1.bias", "1.conv2.weight"}
ROW = {"task": "resnet20", "side": "theirs", "name": "l2", "share": 1 / 3, "seed": 0, "top1": 0.5}


def tiny() -> task.Task:
    """One residual block of random weights, with random images."""
    torch.manual_seed(0)
    stem, head = nn.Conv2d(3, 8, 3, 2, bias=False), nn.Linear(8, 10)
    model = nn.Sequential(stem, ResidualBlock(8, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
    return task.Task(
        name="tiny",
        model=model,
        example=(torch.zeros(1, 3, 8, 8),),
        batches=[(torch.randn(8, 3, 8, 8), torch.arange(8))] * 2,
        loss=F.cross_entropy,
        evaluate=lambda model: {"top1": 0.0},
        hints=task.Hints(ignored={"inner": ["0", "1.conv2", "4"]}),
        inner=["1.conv1: only"],
    )


def test_a_row_replaces_the_same_measurement_and_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    for row in (ROW, {**ROW, "seed": 1}, {**ROW, "top1": 0.6}):
        results.append(path, row)
    assert sorted(row["top1"] for row in results.read(path)) == [0.5, 0.6]
    assert results.key(ROW) in {results.key(row) for row in results.read(path)}
    assert all({"command", "machine", "rows"} == set(run) for run in json.loads(path.read_text()))


@pytest.mark.parametrize("count", [40, 42])
def test_a_draw_has_as_many_of_each_class_and_depends_on_the_seed(count: int) -> None:
    labels = torch.arange(10).repeat_interleave(20)
    draws = [cifar.stratified(labels, count, seed) for seed in (0, 0, 1)]
    assert all(len(draw.unique()) == count for draw in draws)
    assert int(torch.bincount(labels[draws[0]]).max() - torch.bincount(labels[draws[0]]).min()) <= 1
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_norms_are_those_of_the_data_and_of_a_copy() -> None:
    given = tiny()
    renormed = task.norms_reestimated(given.model, given.batches)
    assert renormed is not None
    read = given.model.get_submodule("0")(given.batches[0][0])
    seen = given.model.get_submodule("1.conv1")(read)
    torch.testing.assert_close(renormed.get_submodule("1.bn1").running_mean, seen.mean((0, 2, 3)))
    assert not given.model.get_submodule("1.bn1").running_mean.any()
    assert task.norms_reestimated(nn.Linear(2, 2), []) is None


@pytest.mark.parametrize(
    ("name", "scope"),
    [("l2", "local"), ("lamp", "global"), ("taylor", "isomorphic"), ("hessian", "local"), ("obd-c", "global")],
)
def test_the_incumbent_meets_the_target_and_cuts_inner_widths_only(name: str, scope: str) -> None:
    incumbent = pytest.importorskip("accuracy.incumbent", exc_type=ImportError)
    given = tiny()
    cut, _ = incumbent.fitted(given, incumbent.scores(given, name, "inner"), scope, "inner", 0.5)
    assert 0.3 < given.left(cut)["macs"] <= 0.51
    assert cut(torch.zeros(2, 3, 8, 8)).shape == (2, 10)
    dense = dict(given.model.named_parameters())
    assert {name for name, p in cut.named_parameters() if p.shape != dense[name].shape} == INNER


def test_our_grid_cuts_inner_widths_once_for_each_recovery_and_leaves_out_what_is_seen() -> None:
    grid = pytest.importorskip("accuracy.grid", exc_type=ImportError)
    given, seen = tiny(), {"norms", "shift"}
    sought = grid.Sought([0.6], ["obs", "taylor"], ["global"], seen=lambda row: row["recovery"] in seen)
    rows = list(grid.of_ours(given, sought, "subset"))
    assert not [row["error"] for row in rows if "error" in row]
    wanted = {(name, step) for name in ("obs", "taylor") for step in ("raw", "lsq", "lsq_moments")}
    assert {(row["name"], row["recovery"]) for row in rows} == wanted
    assert all(0.4 < row["macs"] <= 0.6 and row["widths"] == "inner" for row in rows)


def test_a_setting_is_named_in_one_line() -> None:
    ours = pytest.importorskip("accuracy.ours", exc_type=ImportError)
    assert ours.Setting.named("l2 axis all + lsq") == ours.Setting("l2", "axis", "all", "lsq")
    assert ours.Setting.named("bn_scale") == ours.Setting("bn_scale", "global", "inner", "raw")


def test_inner_widths_are_the_same_for_both_sides() -> None:
    ours = pytest.importorskip("accuracy.ours", exc_type=ImportError)
    given = tiny()
    ready = ours.Ready.of(given, [])
    small, dense = ready.cut(ready.plan(ours.Setting("l2"), 0.6), ours.RAW), dict(given.model.named_parameters())
    assert {name for name, p in small.named_parameters() if p.shape != dense[name].shape} == INNER


def test_training_is_that_of_a_copy_and_of_a_seed() -> None:
    finetune = pytest.importorskip("accuracy.finetune", exc_type=ImportError)
    given = tiny().model
    before = {name: value.clone() for name, value in given.state_dict().items()}
    train = cifar.Split(torch.randint(256, (256, 3, 8, 8), dtype=torch.uint8), torch.arange(256) % 10)
    one, same, other = (dict(finetune.trained(given, train, seed, steps=2).state_dict()) for seed in (0, 0, 1))
    torch.testing.assert_close(given.state_dict(), before, rtol=0, atol=0)
    torch.testing.assert_close(one, same, rtol=0, atol=0)
    assert not torch.equal(one["0.weight"], other["0.weight"])
    assert not torch.equal(one["0.weight"], before["0.weight"])


def test_scratch_has_the_shapes_of_the_cut_model_and_none_of_its_weights() -> None:
    finetune = pytest.importorskip("accuracy.finetune", exc_type=ImportError)
    given = tiny().model
    new = dict(finetune.renewed(given, 1).named_parameters())
    assert {name: p.shape for name, p in new.items()} == {name: p.shape for name, p in given.named_parameters()}
    assert not any(torch.equal(new[name], p) for name, p in given.named_parameters() if p.dim() > 1)
