"""The accuracy benchmarks: rows that are found again, subsets that are fair, and an incumbent that cuts what it may."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from accuracy import cifar, results, task
from accuracy.resnet import ResNet

ROW = {"task": "resnet20", "side": "theirs", "name": "l2", "share": 1 / 3, "seed": 0, "top1": 0.5}


def tiny() -> task.Task:
    """A ResNet-8 of random weights, with random images."""
    torch.manual_seed(0)
    model = ResNet(1).eval()
    outer = ["conv1", "linear", *(f"layer{stage}.0.conv2" for stage in (1, 2, 3))]
    return task.Task(
        name="tiny",
        model=model,
        example=(torch.zeros(1, 3, 8, 8),),
        batches=[(torch.randn(8, 3, 8, 8), torch.arange(8))] * 2,
        loss=F.cross_entropy,
        evaluate=lambda model: {"top1": 0.0},
        hints=task.Hints(ignored={"inner": outer}),
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
    seen = given.model.get_submodule("conv1")(given.batches[0][0])
    torch.testing.assert_close(renormed.get_submodule("bn1").running_mean, seen.mean((0, 2, 3)))
    assert not given.model.get_submodule("bn1").running_mean.any()
    assert task.norms_reestimated(torch.nn.Linear(2, 2), []) is None


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
    changed = {name.split(".", 2)[-1] for name, p in cut.named_parameters() if p.shape != dense[name].shape}
    assert changed == {"conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight"}


def test_training_is_that_of_a_copy_and_of_a_seed() -> None:
    finetune = pytest.importorskip("accuracy.finetune", exc_type=ImportError)
    given = tiny().model
    before = {name: value.clone() for name, value in given.state_dict().items()}
    train = cifar.Split(torch.randint(256, (256, 3, 8, 8), dtype=torch.uint8), torch.arange(256) % 10)
    one, same, other = (dict(finetune.trained(given, train, seed, steps=2).state_dict()) for seed in (0, 0, 1))
    torch.testing.assert_close(given.state_dict(), before, rtol=0, atol=0)
    torch.testing.assert_close(one, same, rtol=0, atol=0)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])
    assert not torch.equal(one["conv1.weight"], before["conv1.weight"])


def test_scratch_has_the_shapes_of_the_cut_model_and_none_of_its_weights() -> None:
    finetune = pytest.importorskip("accuracy.finetune", exc_type=ImportError)
    given = tiny().model
    new = dict(finetune.renewed(given, 1).named_parameters())
    assert {name: p.shape for name, p in new.items()} == {name: p.shape for name, p in given.named_parameters()}
    assert not any(torch.equal(new[name], p) for name, p in given.named_parameters() if p.dim() > 1)
