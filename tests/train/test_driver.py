from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import secateur
from secateur.data.batches import Batches
from secateur.errors import FileError, InputError, TargetError
from secateur.graph.graph import Graph
from secateur.masks import mask
from secateur.train import (
    Checkpointing,
    Distillation,
    Fitted,
    Progress,
    TrainOptions,
    accuracy,
    evaluate,
    prune_and_fit,
)
from secateur.train.penalties import ScaleL1

X = torch.randn(40, 3, 6, 6, generator=torch.Generator().manual_seed(0))
Y = (X.mean((1, 2, 3)) > 0).long()
DATA = Batches(lambda rows: X[rows], Y, 10, seed=3)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.drop, self.head = nn.Conv2d(8, 8, 3), nn.Dropout(0.2), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.head(self.drop(F.relu(self.conv2(x)).mean((2, 3))))


def net() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net()


class KilledError(Exception):
    pass


def killed_at(stage: int, step: int) -> Callable[[Progress], None]:
    def watch(now: Progress) -> None:
        if (now.stage, now.step) == (stage, step):
            raise KilledError

    return watch


def accuracy_of(model: nn.Module) -> float:
    return evaluate(model, DATA, accuracy)


def size_of(model: nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 100


class Weights:
    """A penalty that grows with every step, and so has something to remember."""

    def __init__(self, graph: Graph) -> None:
        self.parameters, self.strength = list(graph.model.parameters()), 0.0

    def __call__(self) -> Tensor:
        return self.strength * torch.stack([p.square().sum() for p in self.parameters]).sum()

    def add_gradients_(self) -> None:
        self.strength += 1e-3
        for parameter in self.parameters:
            assert parameter.grad is not None
            parameter.grad.add_(parameter.detach(), alpha=2 * self.strength)

    def state_dict(self) -> dict[str, float]:
        return {"strength": self.strength}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.strength = state["strength"]


def pull(graph: Graph) -> list[Weights]:
    return [Weights(graph)]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


CASES: dict[str, dict[str, Any]] = {
    "macs": {"target": "macs=0.4", "options": TrainOptions(lr=0.05)},
    "channels": {"target": "channels=0.5", "schedule": "cubic", "options": TrainOptions("adamw")},
    "taught, pulled and recovered": {
        "target": "params=0.4",
        "recover": "lsq",
        "data": [(X[:20], Y[:20])],
        "penalties": pull,
        "teacher": Distillation(net(), features=["conv1"]),
    },
    "read by a loader with dice of its own": {
        "target": "params=0.4",
        "importance": "taylor",
        "loss": F.cross_entropy,
        "data": lambda: DataLoader(
            TensorDataset(X, Y), 10, sampler=RandomSampler(X, num_samples=20, generator=seeded())
        ),
        "recover": "shift",
    },
    "judged": {"target": "macs=0.4", "metric": accuracy_of, "max_drop": 1.0},
    "too much": {"target": "params=0.3", "metric": size_of, "max_drop": 4.0},
}


def run(case: str, **more: Any) -> Fitted:
    arguments = {"epochs": 2, "steps": 3, **CASES[case], **more}
    if callable(arguments.get("data")):  # a new one in every run, as in every process
        arguments["data"] = arguments["data"]()
    torch.manual_seed(len(more))  # nothing may depend on what the process drew before
    return prune_and_fit(net(), X[:1], arguments.pop("target"), DATA, **arguments)


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_killed_loop_over_a_masked_model(tmp_path: Path) -> None:
    def masked() -> nn.Module:
        model = net()
        mask(model, 0.5)
        return model

    arguments = {"target": "channels=0.5", "batches": DATA, "epochs": 1, "steps": 2}
    whole = prune_and_fit(masked(), X[:1], **arguments)
    where = Checkpointing(tmp_path, every=1)
    with pytest.raises(KilledError):
        prune_and_fit(masked(), X[:1], **arguments, checkpoint=where, progress=killed_at(2, 2))
    again = prune_and_fit(masked(), X[:1], **arguments, checkpoint=where)
    assert same(whole.model, again.model)
    assert "conv2.parametrizations.weight.0.mask" in again.model.state_dict()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kills", [[(1, 7), (2, 1), (2, 5)], [(3, 8)]])
def test_a_killed_loop_ends_with_the_same_weights(case: str, kills: list[tuple[int, int]], tmp_path: Path) -> None:
    whole = run(case)
    for stage, step in kills:
        if stage < len(whole.stages):
            with pytest.raises(KilledError):
                run(case, checkpoint=Checkpointing(tmp_path, every=3), progress=killed_at(stage, step))
    again = run(case, checkpoint=Checkpointing(tmp_path, every=3))
    assert same(whole.model, again.model)
    assert (whole.stages, whole.stopped, whole.plans) == (again.stages, again.stopped, again.plans)
    assert whole.history.losses == again.history.losses


def test_the_target_is_met_and_the_plan_is_that_of_all_stages() -> None:
    model = net()
    before = copy.deepcopy(model)
    fitted = prune_and_fit(model, X[:1], "macs=0.4", DATA, epochs=1, steps=3)
    assert same(model, before)
    assert secateur.count(fitted.model, X[:1]).macs <= 0.4 * secateur.count(model, X[:1]).macs
    assert fitted.plan is not None
    shapes = {name: p.shape for name, p in secateur.cut(model, fitted.plan).named_parameters()}
    assert shapes == {name: p.shape for name, p in fitted.model.named_parameters()}
    assert fitted.stopped == "target"
    assert (len(fitted.stages), len(fitted.histories), fitted.history.steps) == (4, 3, 12)


def test_one_that_loses_too_much_goes_back_to_the_stage_before() -> None:
    fitted = run("too much")
    assert fitted.stopped == "max_drop"
    assert [record.good for record in fitted.stages] == [True, True, False]
    assert fitted.stages[1].metric == size_of(fitted.model)
    assert "ended: the last stage lost too much; the model is that of the stage before" in str(fitted)


def test_where_no_stage_is_good_enough_the_model_stays() -> None:
    model = net()
    fitted = prune_and_fit(model, X[:1], "params=0.3", DATA, epochs=1, steps=2, metric=size_of, max_drop=0.1)
    assert fitted.model is model
    assert fitted.plan is None


def test_the_table_has_a_line_for_each_stage() -> None:
    lines = str(run("judged")).splitlines()
    assert lines[0].split() == ["stage", "target", "params", "MACs", "metric", "drop"]
    assert [line.split()[0] for line in lines[1:]] == ["start", "1", "2", "3", "ended:"]
    assert lines[-1] == "ended: the target is met"


def test_epochs_and_seeds_go_on_from_stage_to_stage() -> None:
    asked: list[int] = []

    class Numbered:
        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Any:
            raise AssertionError("the epoch has a number")

        def epoch(self, number: int) -> Any:
            asked.append(number)
            return iter([(X, Y)])

    prune_and_fit(net(), X[:1], "macs=0.4", Numbered(), epochs=2, steps=2)
    assert asked == [0, 1, 2, 3]


def test_logs_count_all_steps() -> None:
    seen: list[tuple[int, float]] = []
    run("macs", log=lambda step, numbers: seen.append((step, numbers["stage"])))
    assert seen == [(step, 1 + (step - 1) // 8) for step in range(1, 25)]


CHANGES: dict[str, dict[str, Any]] = {
    "target": {"target": "macs=0.5"},
    "steps": {"steps": 4},
    "scope": {"scope": "axis"},
    "lr": {"options": TrainOptions(lr=0.1)},
    "metric": {"metric": size_of},
    "max_drop": {"metric": size_of, "max_drop": 1.0},
    "data of the cut": {"data": [(X, Y)], "recover": "shift"},
    "penalties": {"penalties": pull},
}


@pytest.mark.parametrize("part", CHANGES)
def test_the_checkpoints_of_another_loop_are_refused(part: str, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run("macs", checkpoint=Checkpointing(tmp_path, every=2), progress=killed_at(1, 3))
    with pytest.raises(FileError, match=rf"belongs to another run\n(.*\n)+  {part}  "):
        run("macs", checkpoint=Checkpointing(tmp_path, every=2), **CHANGES[part])


def test_a_target_that_is_met_already() -> None:
    small = secateur.prune(net(), X[:1], "macs=0.4").model
    with pytest.raises(TargetError, match=r"the target is already met: macs=0\.5"):
        prune_and_fit(small, X[:1], "macs=0.5", DATA, epochs=1)


def test_what_is_known_of_the_dense_model_is_not_measured() -> None:
    fitted = prune_and_fit(
        net(), X[:1], "params=0.3", DATA, epochs=1, steps=2, metric=size_of, max_drop=4.0, dense=100.0
    )
    assert (fitted.stages[0].metric, fitted.stopped) == (100.0, "max_drop")


def test_penalties_are_made_for_the_graph_that_is_cut() -> None:
    kinds: list[bool] = []

    def watch(graph: Graph) -> list[Weights]:
        kinds.append(graph.run.source.uniform)
        return []

    transformers = pytest.importorskip("transformers", reason="needs secateur[hf]")
    sizes = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = transformers.BertModel(transformers.BertConfig(**sizes, intermediate_size=8, max_position_embeddings=8))
    ids = torch.zeros(2, 3, dtype=torch.int64)
    options = TrainOptions(loss=lambda output, target: output.last_hidden_state.square().mean())
    for uniform in (True, False):
        more = {"options": options, "penalties": watch, "uniform": uniform}
        prune_and_fit(model, ids, "params=0.9", [(ids, ids)], epochs=1, **more)
    assert kinds == [True, False]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shedule": "cubic"}, "no option 'shedule'; did you mean 'schedule'"),
        ({"optons": None}, "no option 'optons'; did you mean 'options'"),
        ({"carry": []}, "no option 'carry'"),
        ({"dense": 0.5}, "dense=0.5 without a metric"),
        (
            {"penalties": ScaleL1(secateur.trace(net(), X[:1]), 1e-4)},
            "penalties is a ScaleL1, but every stage",
        ),
        ({"penalties": lambda graph: [1]}, "penalties holds 1, which is not a penalty"),
        ({"penalties": [1]}, r"penalties is a list, but every stage has a different model\ngive a function"),
    ],
)
def test_what_cannot_be_passed_on(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prune_and_fit(net(), X[:1], "macs=0.5", DATA, epochs=1, **wrong)
