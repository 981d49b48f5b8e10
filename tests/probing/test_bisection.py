from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import secateur
from nets import NETS
from secateur import FileError, InputError, TargetError, pruning
from secateur.probing import Found, search

CUT = [name for name, net in NETS.items() if net.axes]
SHARES = ("macs", "params", "channels")


def units(model: nn.Module) -> float:
    return float(sum(parameter.numel() for parameter in model.parameters()))


def small() -> tuple[nn.Module, torch.Tensor]:
    return nn.Sequential(nn.Linear(4, 40), nn.ReLU(), nn.Linear(40, 2)), torch.zeros(1, 4)


def width(model: nn.Module) -> float:
    return float(model[0].out_features)  # type: ignore[index]


def searched(*args: Any, **options: Any) -> Found | None:
    """What a search finds, or None where nothing obeys."""
    with contextlib.suppress(TargetError):
        return search(*args, **options)


def disobeying(found: Found) -> list[str]:
    """The result if it costs too much, and all larger cuts that cost little enough."""
    own = next(probe for probe in found.probes if probe.target == found.plan.target[0])
    larger = [probe.target for probe in found.probes if probe.remains < own.remains and probe.drop <= found.max_drop]
    return [*([own.target] if own.drop > found.max_drop else []), *larger]


@pytest.mark.parametrize("name", CUT)
def test_the_result_obeys_and_no_larger_cut_that_was_tried_does(name: str) -> None:
    net = NETS[name]
    model = net.make()
    for kind in SHARES:
        for part in (0.1, 0.5):
            found = searched(model, net.example(), kind, metric=units, max_drop=part * units(model), tolerance=0.05)
            if found is not None:
                assert units(found.model) == found.value >= (1 - part) * found.dense
                assert found.plan.target[0].startswith(f"{kind}=")
                assert disobeying(found) == []


def test_most_of_these_searches_find_something() -> None:
    nets = [NETS[name] for name in CUT]
    halves = [(net.make(), net.example()) for net in nets]
    found = [searched(m, x, "params", metric=units, max_drop=0.5 * units(m), tolerance=0.2) for m, x in halves]
    assert sum(result is not None for result in found) > 0.8 * len(CUT)


def test_it_comes_as_close_as_the_tolerance_says() -> None:
    model, x = small()
    found = search(model, x, "macs", metric=width, max_drop=10, tolerance=0.001)
    assert (found.dense, found.value, width(found.model)) == (40, 30, 30)


@pytest.mark.parametrize("seed", range(5))
def test_a_metric_that_is_not_monotone_never_gives_a_model_that_costs_too_much(seed: int) -> None:
    model, x = small()
    values = torch.rand(41, generator=torch.Generator().manual_seed(seed))
    values[36:] = 0.8

    def metric(model: nn.Module) -> float:
        return float(values[int(width(model))])

    found = search(model, x, "macs", metric=metric, max_drop=0.3)
    assert metric(found.model) == found.value >= found.dense - 0.3
    assert disobeying(found) == []


def test_the_checker_notices() -> None:
    model, x = small()
    found = search(model, x, "macs", metric=width, max_drop=10)
    generous = Found(found.model, found.plan, found.graph, None, found.dense, found.value, 20, found.probes)
    strict = Found(found.model, found.plan, found.graph, None, found.dense, found.value, 5, found.probes)
    assert disobeying(found) == []
    assert disobeying(generous) != []
    assert disobeying(strict) != []


def test_lower_may_be_better() -> None:
    model, x = small()
    found = search(model, x, "params", metric=lambda m: -width(m), max_drop=10, higher_is_better=False, tolerance=0.001)
    assert (found.dense, found.value) == (-40, -30)


def test_blocks_too() -> None:
    class Residual(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + super().forward(x).relu()

    net = nn.Sequential(*(Residual(6, 6) for _ in range(6)))
    found = search(net, torch.zeros(1, 6), "depth", metric=lambda m: float(units(m) > 2.5 * 42), max_drop=0)
    assert len(found.plan.removed) == 3


def test_it_is_what_prune_gives_for_the_same_target() -> None:
    model, x = small()
    found = search(model, x, "macs", metric=width, max_drop=10, importance="l1", verify=True)
    same = secateur.prune(model, x, list(found.plan.target), importance="l1")
    assert found.plan == same.plan
    assert found.verification is not None
    assert all(torch.equal(a, b) for a, b in zip(found.model.parameters(), same.model.parameters(), strict=True))


def test_the_model_is_left_as_it_is_and_modes_are_kept() -> None:
    model, x = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def metric(model: nn.Module) -> float:
        assert not model.training
        model.requires_grad_(False)[0].weight.zero_()  # type: ignore[index, operator]
        return width(model)

    found = search(model.train(), x, "macs", metric=metric, max_drop=10)
    assert model.training
    assert found.model.training
    assert found.model[0].weight.abs().sum() > 0  # type: ignore[index]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_it_traces_once_and_judges_equal_cuts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    traces, calls = [], []
    monkeypatch.setattr(pruning, "trace", lambda *args, **options: traces.append(1) or secateur.trace(*args, **options))
    model, x = small()
    found = search(model, x, "macs", metric=lambda m: calls.append(width(m)) or width(m), max_drop=10, tolerance=0.001)
    assert len(traces) == 1
    assert len(calls) == len(set(calls)) <= len(found.probes)


@pytest.mark.parametrize("fails_at", range(1, 6))
def test_a_killed_search_goes_on(tmp_path: Path, fails_at: int) -> None:
    model, x = small()
    calls: list[float] = []

    def metric(model: nn.Module) -> float:
        calls.append(width(model))
        if len(calls) == fails_at:
            raise KeyboardInterrupt
        return width(model)

    with pytest.raises(KeyboardInterrupt):
        search(model, x, "macs", metric=metric, max_drop=10, path=tmp_path / "s.json")
    found = search(model, x, "macs", metric=metric, max_drop=10, path=tmp_path / "s.json")
    del calls[fails_at - 1]
    assert len(calls) == len(set(calls))
    done = len(calls)
    again = search(model, x, "macs", metric=metric, max_drop=10, path=tmp_path / "s.json")
    assert (len(calls), again.plan, again.probes) == (done, found.plan, found.probes)


def test_another_drop_reuses_what_is_known_and_other_weights_do_not(tmp_path: Path) -> None:
    model, x = small()
    options: dict[str, Any] = {"metric": width, "path": tmp_path / "s.json"}
    search(model, x, "macs", max_drop=10, **options)
    before = len(json.loads((tmp_path / "s.json").read_text())["values"])
    search(model, x, "macs", max_drop=9, **options)
    assert len(json.loads((tmp_path / "s.json").read_text())["values"]) < 2 * before
    with pytest.raises(FileError, match="was measured with other weights"):
        search(small()[0], x, "macs", max_drop=10, **options)


def test_what_is_finished_is_judged_and_given() -> None:
    def finish(model: nn.Module, plan: secateur.Plan) -> None:
        model[0].bias.data.fill_(7)  # type: ignore[index]

    def metric(model: nn.Module) -> float:
        return width(model) if width(model) == 40 or (model[0].bias == 7).all() else -99.0  # type: ignore[index]

    model, x = small()
    found = search(model, x, "macs", metric=metric, max_drop=10, finish=finish)
    assert found.value >= 30
    assert (found.model[0].bias == 7).all()  # type: ignore[index]


def test_it_takes_what_was_measured_for_an_allocation() -> None:
    model, x = small()
    allocation = secateur.sensitivity(secateur.trace(model, x), units, higher_is_better=True)
    found = search(model, x, "macs", metric=width, max_drop=10, allocation=allocation)
    assert found.plan.notes["allocation"] == "measured"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kind": "mac"}, TargetError, "kind='mac' is not a kind of target; did you mean 'macs'"),
        ({"kind": "macs=0.5"}, TargetError, "kind='macs=0.5' is not a kind of target; did you mean 'macs'"),
        ({"max_drop": -1.0}, InputError, "max_drop=-1.0 is not a finite number from 0 up\ngive how much worse"),
        ({"max_drop": math.nan}, InputError, "max_drop=nan is not a finite number from 0 up\ngive how much worse"),
        ({"max_drop": "1"}, InputError, "max_drop='1' is not a finite number from 0 up\ngive how much worse"),
        ({"tolerance": 0}, InputError, "tolerance=0 is not between 0 and 1\ngive the share"),
        ({"metric": 1}, InputError, r"metric=1 is not a function \(model\) -> number"),
        ({"finish": 1}, InputError, r"finish=1 is not a function \(model, plan\)"),
        ({"importance": "l3"}, InputError, "no importance is named 'l3'"),
        ({"metric": lambda model: math.nan}, InputError, "the metric of the whole model is not usable: nan"),
        ({"metric": lambda m: "x" if width(m) < 40 else 1}, InputError, "the metric of the cut to macs=0.5 is not"),
        (
            {"max_drop": 0},
            TargetError,
            r"40 before, by at most .*\nthe smallest cut tried is macs=0.9",
        ),
    ],
)
def test_wrong_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    model, x = small()
    given: dict[str, Any] = {"kind": "macs", "metric": width, "max_drop": 10, **options}
    with pytest.raises(error, match=message):
        search(model, x, given.pop("kind"), **given)


def test_a_kind_of_which_nothing_can_be_cut() -> None:
    model, x = small()
    with pytest.raises(TargetError, match="no macs can be cut"):
        search(model, x, "macs", metric=width, max_drop=10, select="*: protect")


def test_it_prints_what_was_tried() -> None:
    model, x = small()
    text = str(search(model, x, "macs", metric=width, max_drop=10))
    tried = text.split("\n\n")[-1].splitlines()
    assert tried[0] == "the largest cut with a drop of at most 10 from 40"
    assert tried[2].split() == ["macs=0.5", "20", "20", "too", "much"]
