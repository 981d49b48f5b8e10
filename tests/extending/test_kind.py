"""Target kinds of another package: one row each, used from end to end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

import secateur
from commands import SHAPE, Command
from secateur.cost.kinds import KINDS, Kind, add_kind
from secateur.cost.size_polynomials import Counts, SizePolynomial
from secateur.errors import TargetError
from secateur.graph.graph import Graph
from secateur.train.checkpoint import Checkpointing
from secateur.train.driver import prune_and_fit

X = torch.zeros(2, 3, 8, 8)


def convolutions(graph: Graph) -> SizePolynomial:
    """The weights of two-dimensional convolutions."""
    return graph.cost.sum_of((1, site.dims) for site in graph.sites.values() if len(site.dims) == 4)


class Milliseconds:
    """A made-up prediction: a base and a time per unit, in floats."""

    def __init__(self, graph: Graph):
        self.each = np.linspace(0.01, 0.02, len(graph.axes))

    def many(self, counts: Counts) -> npt.NDArray[np.float64]:
        return 0.1 + counts @ self.each

    def slopes(self, counts: Counts) -> npt.NDArray[np.float64]:
        return self.each


def net() -> nn.Module:
    torch.manual_seed(0)
    convs = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.ReLU())
    return nn.Sequential(convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 4))


def weights(model: nn.Module) -> int:
    return sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Conv2d))


@pytest.fixture
def toy() -> Iterator[None]:
    add_kind(Kind("toy", "convolution weights", cost=convolutions))
    yield
    del KINDS["toy"]


@pytest.fixture
def milliseconds() -> Iterator[None]:
    add_kind(Kind("ms", "time", "ms", shares=False, cost=Milliseconds, of_call=True))
    yield
    del KINDS["ms"]


@pytest.mark.usefixtures("toy")
class TestToy:
    def test_prune(self) -> None:
        model = net()
        found = secateur.prune(model, X, "toy=0.5", verify=True)
        had, have = weights(model), weights(found.model)
        assert 0.4 * had < have <= 0.5 * had
        assert found.report["toy"] == {"before": had, "after": have}
        assert (found.plan.before["toy"], found.plan.after["toy"]) == (had, have)
        assert found.plan.target == ("toy=0.5",)
        line = next(line for line in str(found).splitlines() if line.startswith("convolution weights"))
        assert line.split()[2:4] == [f"{had:,}", f"{have:,}"]

    def test_a_plan_that_counts_it_is_saved_and_read_also_without_the_row(self, tmp_path: Path) -> None:
        found = secateur.prune(net(), X, ["toy=0.5", "params=0.8"])
        found.save(tmp_path / "small.safetensors")
        text, kind = found.plan.to_json(), KINDS["toy"]
        for _ in "with", "without":
            read = secateur.Plan.from_json(text)
            assert read == found.plan
            assert str(read) == str(found.plan)
            again = secateur.load(net(), tmp_path / "small.safetensors")
            assert weights(again) == found.plan.after["toy"]
            KINDS.pop("toy", None)
        add_kind(kind)

    def test_counts_and_what_is_out_of_reach(self) -> None:
        graph = secateur.trace(net(), X)
        total = weights(graph.model)
        after = secateur.plan(graph, "toy=1000").after["toy"]
        assert after is not None
        assert 800 < after <= 1000
        with pytest.raises(TargetError, match=f"the model has only {total:,} toy\n.*'toy=0.5'"):
            secateur.plan(graph, f"toy={total + 1}")
        with pytest.raises(TargetError, match=r"cannot be reached: the smallest possible is \d+ \(toy=0\.\d+\)"):
            secateur.plan(graph, "toy=0.0001")

    def test_search(self) -> None:
        found = secateur.search(net(), X, "toy", metric=lambda model: float(weights(model)), max_drop=2000)
        before, after = found.plan.before["toy"], found.plan.after["toy"]
        assert before is not None
        assert after is not None
        assert before - 2000 <= after < before

    def test_iterate(self) -> None:
        model = net()
        total = weights(model)
        for stage in secateur.iterate(model, X, "toy=0.5", steps=3):
            assert weights(stage.model) == stage.plan.after["toy"]
        assert weights(stage.model) <= 0.5 * total
        for again in secateur.iterate(stage.model, X, "toy=0.25", steps=1):  # shares are of the first model
            assert 0.2 * total < weights(again.model) <= 0.25 * total

    def test_training_shows_it_and_goes_on(self, tmp_path: Path) -> None:
        batches = [(torch.randn(2, 3, 8, 8), torch.tensor([0, 1]))]
        fitted = [
            prune_and_fit(net(), X, "toy=0.5", batches, epochs=1, steps=2, checkpoint=Checkpointing(tmp_path / "kept"))
            for _ in ("run", "run again, from the checkpoint")
        ][-1]
        assert "toy" in str(fitted)
        assert fitted.stages[-1].as_dict()["toy"] == weights(fitted.model)

    def test_recovery_adds_what_the_row_says(self) -> None:
        model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 4, 3, bias=False))
        found = secateur.prune(model, X, "toy=0.5", data=[(torch.randn(2, 3, 8, 8), None)], recover="shift")
        assert found.plan.after["toy"] == weights(found.model)
        assert found.plan.after.params == sum(p.numel() for p in found.model.parameters())

    def test_a_graph_that_knows_costs_is_pickled(self) -> None:
        graph = secateur.trace(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), torch.zeros(1, 4))
        secateur.plan(graph, "params=0.5")
        assert "_costs" in graph.__dict__
        assert "_costs" not in graph.__getstate__()

    def test_the_command_line_takes_and_lists_it(self, command: Command) -> None:
        found = command.json("plan", command.net, *SHAPE, "--target", "toy=0.5")
        assert found["target"] == ["toy=0.5"]
        assert found["after"][3]["toy"][0] <= 0.5 * found["before"][3]["toy"][0]
        assert "depth=0.75, toy=0.5; repeatable." in " ".join(command("plan", "--help").replace("│", " ").split())

    def test_it_is_listed(self) -> None:
        with pytest.raises(TargetError, match="known: channels, params, macs, memory, depth, toy\n"):
            secateur.plan(secateur.trace(net(), X), "latency=0.5")
        with pytest.raises(TargetError, match="'depth', 'toy', without a number"):
            secateur.search(net(), X, "latency", metric=weights, max_drop=1)

    def test_a_second_row_of_a_name_raises(self) -> None:
        with pytest.raises(ValueError, match="two target kinds named toy"):
            add_kind(Kind("toy", "toys"))


@pytest.mark.usefixtures("milliseconds")
class TestMilliseconds:
    """Floats, and counts alone: what a prediction of time will be."""

    def test_plan(self) -> None:
        graph = secateur.trace(net(), X)
        before = graph.totals["ms"]
        assert before is not None
        plan = secateur.plan(graph, "ms=0.75")
        assert plan.after["ms"] == pytest.approx(0.75, abs=0.02)
        assert plan.after["ms"] <= 0.75
        line = next(line for line in str(plan).splitlines() if line.startswith("time (ms)"))
        assert line.split()[2] == f"{before:.4g}"
        assert secateur.Plan.from_json(plan.to_json()) == plan

    def test_search_and_iterate(self) -> None:
        found = secateur.search(net(), X, "ms", metric=lambda m: sum(p.numel() for p in m.parameters()), max_drop=1500)
        assert found.plan.after["ms"] < found.plan.before["ms"]
        *_, last = secateur.iterate(net(), X, "ms=0.75", steps=2)
        assert last.plan.after["ms"] <= 0.75

    def test_malformed(self) -> None:
        with pytest.raises(TargetError, match=r"write e\.g\. 'ms=2'"):
            secateur.plan(secateur.trace(net(), X), "ms=0")
