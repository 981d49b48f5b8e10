from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import secateur
from secateur.data import Batches, Data
from secateur.errors import InputError
from secateur.recipes import RECIPES, load_recipe
from secateur.recipes.document import document
from secateur.recipes.framework import Options, Result, Row, scratch, size, stratified, subset
from secateur.train import fit


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_as_agreed(name: str) -> None:
    module = load_recipe(name)
    assert name == module.NAME
    assert module.SOURCE
    assert module.__doc__
    assert importlib.util.find_spec(RECIPES[name]) is not None


def test_an_unknown_recipe() -> None:
    with pytest.raises(InputError, match=r"no recipe 'tailor'; did you mean 'taylor'\?\nknown: taylor, l1-filters"):
        load_recipe("tailor")


def result(**more: object) -> Result:
    rows = (Row("dense", 1000, 20_000, {"dense": 0.5}), Row("l1", 5, 25, {"finetuned": 0.25}, {"right": "yes"}))
    return Result("r", "claim", "data", rows, **more)  # type: ignore[arg-type]


def test_a_table_shows_every_figure_and_leaves_gaps() -> None:
    assert str(result()).splitlines()[3:] == [
        "method  params    MACs    dense  finetuned",
        "dense    1,000  20,000  50.00 %",
        "l1           5      25             25.00 %",
    ]


def test_a_table_of_another_metric_with_a_column_of_words() -> None:
    assert str(result(metric="mse", columns=("right",))).splitlines()[3:] == [
        "method  params    MACs  dense  finetuned  right",
        "dense    1,000  20,000    0.5",
        "l1           5      25              0.25  yes",
    ]


def test_the_document_says_how_it_was_made() -> None:
    found = document(result(more={"curve": [1, 2]}), "secateur recipe r", Options(seed=3, quick=True), 1.25)
    assert (found["seed"], found["quick"], found["seconds"], found["curve"]) == (3, True, 1.2, [1, 2])
    assert found["versions"]["torch"] == torch.__version__
    assert {"processor", "cores", "threads", "system"} == found["machine"].keys()
    assert found["rows"][1]["more"] == {"right": "yes"}


def net() -> nn.Module:
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4, 3)]
    return nn.Sequential(*layers)


def test_size_is_that_of_one_call() -> None:
    assert size(net(), torch.zeros(2, 1, 4, 4)) == (8 * 9 + 8 + 16 + 99, 2 * (8 * 9 * 4 + 96))


def test_scratch_is_of_the_same_shape_and_forgets_everything() -> None:
    dense = net()
    dense(torch.randn(9, 1, 4, 4))
    small = secateur.prune(dense, torch.zeros(1, 1, 4, 4), "channels=0.5").model
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    fresh = scratch(small)
    assert {k: v.shape for k, v in fresh.state_dict().items()} == {k: v.shape for k, v in before.items()}
    assert not torch.equal(fresh[0].weight, small[0].weight)  # type: ignore[index]
    assert fresh[1].running_mean.abs().sum() == 0  # type: ignore[index]
    assert all(torch.equal(tensor, before[name]) for name, tensor in small.state_dict().items())


def test_scratch_depends_on_its_seed_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = (scratch(net(), seed)[0].weight for seed in (1, 1, 2))  # type: ignore[index]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), state)


def test_scratch_draws_attention_too() -> None:
    attention = nn.MultiheadAttention(8, 2)
    assert not torch.equal(scratch(attention).in_proj_weight, attention.in_proj_weight)


def test_scratch_refuses_what_it_cannot_draw() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

    with pytest.raises(InputError, match=r"Bare '0' holds parameters and has no reset_parameters\(\); give it one"):
        scratch(nn.Sequential(Bare()))


@pytest.mark.parametrize("count", [1, 7, 10, 33, 99, 100])
@pytest.mark.parametrize("classes", [1, 3, 10])
def test_classes_are_drawn_alike(count: int, classes: int) -> None:
    labels = (torch.arange(100) * classes // 100).long()
    drawn = stratified(labels, count, seed=0)
    counts = labels[drawn].bincount(minlength=classes)
    assert len(set(drawn.tolist())) == count
    assert drawn.tolist() == sorted(drawn.tolist())
    assert counts.max() - counts.min() <= 1 or counts.min() == labels.bincount().min()


def test_small_classes_give_all_they_have() -> None:
    labels = torch.tensor([0] * 20 + [1] * 2)
    assert labels[stratified(labels, 10, 3)].bincount().tolist() == [8, 2]


def batches(seed: int | None) -> Batches:
    def load(indices: np.ndarray) -> Tensor:
        return torch.as_tensor(indices, dtype=torch.float32)[:, None]

    return Batches(load, torch.arange(60) // 6, 8, seed, augment=lambda x, rng: x + 0.25)


def test_a_subset_keeps_inputs_beside_targets_and_everything_else() -> None:
    few = subset(Data(batches(1), batches(None), 10), train=20, test=30)
    assert (few.train.batch_size, few.train.seed, few.num_classes) == (8, 1, 10)  # type: ignore[attr-defined]
    assert all(torch.equal(x[:, 0].long() // 6, y) for x, y in (*few.train, *few.test))
    assert all(torch.equal(x[:, 0] % 1, torch.full((len(x),), 0.25)) for x, _ in few.train.epoch(0))  # type: ignore[attr-defined]
    assert [y.tolist() for _, y in few.train] != [y.tolist() for _, y in few.train.epoch(1)]  # type: ignore[attr-defined]


def test_a_subset_depends_on_its_seed_alone() -> None:
    drawn = [
        sorted(float(v) for x, _ in subset(Data(batches(1), batches(None), 10), train=20, seed=s).train for v in x)
        for s in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_asking_for_more_gives_all() -> None:
    data = Data(batches(1), batches(None), 10)
    assert subset(data, train=10**6).train is data.train
    assert subset(data).test is data.test


def test_whole_batches_have_no_subset() -> None:
    with pytest.raises(InputError, match="list yields whole batches, so 3 examples cannot be selected"):
        subset(Data([], [], None), train=3)


def test_a_subset_can_be_trained_on() -> None:
    few = subset(Data(batches(1), batches(None), 10), train=20)
    assert fit(nn.Linear(1, 10), few.train, epochs=1).steps == len(few.train)
