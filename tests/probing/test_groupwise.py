from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur
from nets import NETS, graph_of
from secateur import FileError, InputError, Select, Sensitivity
from secateur.graph.graph import Graph
from secateur.planning.solver.ladders import allowed_levels
from secateur.probing import sensitivity

CUT = [name for name, net in NETS.items() if net.axes]


class Deaf(nn.Module):
    """Two hidden layers side by side; the output hears the second one a thousand times less."""

    def __init__(self) -> None:
        super().__init__()
        self.loud, self.quiet = nn.Linear(6, 20), nn.Linear(6, 20)
        self.out1, self.out2 = nn.Linear(20, 3), nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out1(self.loud(x).relu()) + self.out2(self.quiet(x).relu()) / 1000


@pytest.fixture
def deaf() -> Graph:
    torch.manual_seed(0)
    return secateur.trace(Deaf().eval(), torch.zeros(1, 6))


class Judge:
    """The distance from the model's own outputs; notes every model, and gives in at a call that is asked for."""

    def __init__(self, graph: Graph, fails_at: int | None = None):
        self.x = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
        self.y = graph.model(self.x).detach()
        self.calls, self.fails_at = 0, fails_at

    def __call__(self, model: nn.Module) -> Tensor:
        self.calls += 1
        if self.calls == self.fails_at:
            raise KeyboardInterrupt
        return (model(self.x) - self.y).square().mean()


def units(model: nn.Module) -> float:
    """A metric that any network of the table has."""
    return float(sum(parameter.numel() for parameter in model.parameters()))


@pytest.mark.parametrize("name", CUT)
def test_every_group_that_can_be_cut_alone_is_measured_at_every_ratio(name: str) -> None:
    graph = graph_of(name)
    found = sensitivity(graph, units, higher_is_better=True)
    assert found.dense == graph.params
    wishes = Select(floor=0).on(graph)
    movable = {group.axes[0].name for group in graph.groups if len(allowed_levels(group, wishes)) > 1}
    assert {curve.name for curve in found.curves} | set(found.stays) == movable
    for curve in found.curves:
        kept = [point.kept for point in curve.points]
        assert kept == sorted(kept, reverse=True)
        assert all(0 < k < curve.steps for k in kept)
        assert all(point.value < found.dense for point in curve.points)


@pytest.mark.parametrize("name", CUT)
def test_what_is_measured_is_what_a_plan_by_widths_would_give(name: str) -> None:
    graph = graph_of(name)
    for curve in sensitivity(graph, units, ratios=[0.5]).curves:
        width = curve.points[0].kept * curve.units[curve.name] // curve.steps
        plan = secateur.plan(graph, select=Select(floor=0, widths={curve.name: width}))
        assert curve.points[0].value == plan.after.params


@pytest.mark.parametrize("name", CUT)
def test_as_an_allocation_it_meets_the_target_or_says_what_is_possible(name: str) -> None:
    graph = graph_of(name)
    found = sensitivity(graph, units, higher_is_better=True)
    with contextlib.suppress(secateur.TargetError):
        plan = secateur.plan(graph, "macs=0.7", allocation=found)
        assert plan.after.macs <= 0.7 * plan.before.macs
        assert plan.notes["allocation"] == "measured"


def test_the_model_is_left_as_it_is(deaf: Graph) -> None:
    def spoil(model: nn.Module) -> float:
        with torch.no_grad():
            model.get_parameter("loud.weight").zero_()
        return model.train().training + torch.rand(()).item()

    model = deaf.model.train()
    before, state = {n: t.clone() for n, t in model.state_dict().items()}, torch.get_rng_state()
    sensitivity(deaf, spoil, finish=lambda small, plan: small.requires_grad_(False))
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_models_are_judged_in_evaluation_mode_after_they_are_finished(deaf: Graph) -> None:
    seen: list[tuple[bool, float]] = []

    def evaluate(model: nn.Module) -> float:
        seen.append((model.training, model.get_parameter("out1.bias").sum().item()))
        return 0.0

    def finish(small: nn.Module, plan: secateur.Plan) -> None:
        small.get_parameter("out1.bias").data.fill_(len(list(plan.dropped())))

    deaf.model.train()
    sensitivity(deaf, evaluate, ratios=[0.5], finish=finish)
    assert [training for training, _ in seen] == [False] * 3
    assert [bias for _, bias in seen[1:]] == [3.0, 3.0]


@pytest.mark.parametrize("fails_at", range(1, 10))
def test_a_killed_run_goes_on_without_measuring_anything_twice(deaf: Graph, tmp_path: Path, fails_at: int) -> None:
    path = tmp_path / "s.json"
    killed, second, third = Judge(deaf, fails_at), Judge(deaf), Judge(deaf)
    with pytest.raises(KeyboardInterrupt):
        sensitivity(deaf, killed, path=path)
    assert len(json.loads(path.read_text())["values"]) == fails_at - 1
    found = sensitivity(deaf, second, path=path)
    assert killed.calls - 1 + second.calls == 9
    assert found == sensitivity(deaf, third, path=path) == sensitivity(deaf, Judge(deaf)) == Sensitivity.read(path)
    assert third.calls == 0


def test_further_ratios_cost_only_themselves(deaf: Graph, tmp_path: Path) -> None:
    sensitivity(deaf, Judge(deaf), ratios=[0.5], path=tmp_path / "s.json")
    judge = Judge(deaf)
    found = sensitivity(deaf, judge, ratios=[0.75, 0.5, 0.49], path=tmp_path / "s.json")
    assert judge.calls == 4
    assert [p.kept for p in found.curve("quiet").points] == [15, 10, 9]


def test_json_is_identity(deaf: Graph, tmp_path: Path) -> None:
    found = sensitivity(deaf, Judge(deaf), path=tmp_path / "s.json")
    assert Sensitivity.from_json(found.to_json()) == found
    assert found.to_json() == (tmp_path / "s.json").read_text()


def scaled(graph: Graph) -> Graph:
    graph.model.get_parameter("loud.weight").data.mul_(2)
    return graph


OTHERS: dict[str, tuple[Callable[[Graph], Graph], dict[str, Any]]] = {
    "weights": (scaled, {}),
    "axes": (lambda graph: secateur.trace(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), torch.zeros(1, 4)), {}),
    "scores": (lambda graph: graph, {"importance": "l1"}),
    "functions": (lambda graph: graph, {"finish": lambda model, plan: None}),
    "key": (lambda graph: graph, {"key": "other data"}),
}


@pytest.mark.parametrize("part", OTHERS)
def test_a_file_of_something_else_is_refused_and_left(deaf: Graph, tmp_path: Path, part: str) -> None:
    path, (other, options) = tmp_path / "s.json", OTHERS[part]
    sensitivity(deaf, units, ratios=[0.5], path=path)
    before = path.read_bytes()
    message = (
        rf"s.json was measured with other (weights|{part})\n  there  .*\n  here   .*\ngive another path, or delete"
    )
    with pytest.raises(FileError, match=message):
        sensitivity(other(deaf), units, ratios=[0.5], path=path, **options)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is not a sensitivity file of secateur: JSONDecodeError"),
        ("[]", "this is not a sensitivity file of secateur: TypeError"),
        ('{"format": 9, "kind": "sensitivity"}', "format 9 of kind 'sensitivity', not 1 of kind 'sensitivity'"),
        ('{"format": 1, "kind": "search"}', "format 1 of kind 'search', not 1 of kind 'sensitivity'"),
        (
            '{"format": 1, "kind": "sensitivity", "fingerprint": {}, "about": {}, "values": {"dense": NaN}}',
            "nan is not finite",
        ),
        (
            '{"format": 1, "kind": "sensitivity", "fingerprint": {}, "about": {}, "values": {}}',
            "this is not a valid sensitivity file: KeyError: 'dense'",
        ),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(FileError, match=message):
        Sensitivity.read(tmp_path / "s.json")


def test_a_missing_file_and_a_missing_folder(deaf: Graph, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nowhere\.json cannot be read: No such file"):
        Sensitivity.read(tmp_path / "nowhere.json")
    judge = Judge(deaf)
    with pytest.raises(InputError, match="there is no folder"):
        sensitivity(deaf, judge, path=tmp_path / "nowhere" / "s.json")
    assert judge.calls == 0


@pytest.mark.parametrize(
    ("value", "fact"),
    [
        (math.nan, "nan is not finite"),
        (torch.tensor(math.inf), "inf is not finite"),
        ("0.5", "a str, '0.5', is not a number"),
        (None, "a NoneType is not a number"),
        (True, "a bool, True, is not a number"),
        (torch.zeros(2), "a Tensor is not a number"),
    ],
)
def test_a_value_that_is_no_number_names_axis_and_ratio(deaf: Graph, value: Any, fact: str) -> None:
    full = units(deaf.model)

    def evaluate(model: nn.Module) -> Any:
        return value if units(model) < full else 1.0

    with pytest.raises(InputError) as caught:
        sensitivity(deaf, evaluate)
    message = str(caught.value)
    assert message.startswith(f"the metric of axis 'loud' at 90% (18 of 20 steps) is not usable: {fact}\n")
    assert "evaluate takes a model and must return one finite number" in message


def test_the_dense_model_must_have_a_value_too(deaf: Graph) -> None:
    with pytest.raises(InputError, match="the metric of the whole model is not usable: nan is not finite"):
        sensitivity(deaf, lambda model: math.nan)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratios": []}, r"ratios=\[\] is not a list of shares between 0 and 1\ngive shares of the units that remain"),
        ({"ratios": [0.5, 1.0]}, r"ratios=\[0.5, 1.0\] is not a list of shares"),
        ({"ratios": ["0.5"]}, r"ratios=\['0.5'\] is not a list of shares"),
        ({"evaluate": 3}, r"evaluate=3 is not a function \(model\) -> number"),
        ({"finish": 3}, r"finish=3 is not a function \(model, plan\)"),
        ({"graph": nn.Linear(2, 2)}, "graph is a Linear, not a Graph\nmake one first"),
        ({"importance": "l3"}, "no importance is named 'l3'"),
    ],
)
def test_wrong_arguments(deaf: Graph, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sensitivity(**{"graph": deaf, "evaluate": units, **options})


def test_a_finish_that_gives_no_model(deaf: Graph) -> None:
    with pytest.raises(InputError, match="finish returned a float\nchange the model in place, or return another model"):
        sensitivity(deaf, units, finish=lambda model, plan: 1.0)  # type: ignore[arg-type]


def test_a_model_without_axes() -> None:
    graph = secateur.trace(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(InputError, match="this model has no prunable axis"):
        sensitivity(graph, units)


def test_what_matters_stays_and_what_does_not_goes(deaf: Graph) -> None:
    found = sensitivity(deaf, Judge(deaf))
    assert [curve.name for curve in found.ranked()] == ["loud", "quiet"]
    counts = {n: axis.kept_count for n, axis in secateur.plan(deaf, "macs=0.7", allocation=found).axes.items()}
    assert counts["quiet"] < 10
    assert counts["loud"] == 20
    by_weights = {n: axis.kept_count for n, axis in secateur.plan(deaf, "macs=0.7").axes.items()}
    assert by_weights["loud"] < 20  # weights alone do not tell


def test_within_an_axis_units_go_by_importance(deaf: Graph) -> None:
    found = sensitivity(deaf, Judge(deaf))
    scores = {"loud": torch.arange(20.0), "quiet": torch.arange(20.0)}
    plan = secateur.plan(deaf, "macs=0.7", allocation=found, importance=scores)
    kept = plan.axes["quiet"].kept
    assert kept == tuple(range(20 - len(kept), 20))  # type: ignore[arg-type]


def curve_of(deaf: Graph, values: dict[int, float], *, higher: bool = False) -> tuple[float, ...]:
    """Prices of "loud" between the counts 20, 15, 10, 5 and 2, where so much was measured."""
    given = iter([0.0, *values.values(), *[-99.0 if higher else 99.0] * len(values)])
    ratios = [count / 20 for count in values]
    found = sensitivity(deaf, lambda model: next(given), ratios=ratios, higher_is_better=higher)
    return found.prices(deaf.groups[0], [20, 15, 10, 5, 2])


SHAPES = {  # measured at 15, 10 and 5 of 20; the price of a unit in between and below
    "as measured": ((5.0, 15.0, 30.0), (1.0, 2.0, 3.0, 3.0)),
    "rule 1: deeper and better": ((10.0, 5.0, 15.0), (1.0, 1.0, 2.0, 2.0)),
    "rule 1: better than dense": ((-3.0, 0.0, 10.0), (0.0, 0.0, 2.0, 2.0)),
    "rule 3: broken already": ((20.0, 20.0, 20.0), (4.0, 4.0, 4.0, 4.0)),
}


@pytest.mark.parametrize("higher", [False, True])
@pytest.mark.parametrize("case", SHAPES)
def test_prices_follow_the_measured_curve(deaf: Graph, case: str, higher: bool) -> None:
    harms, prices = SHAPES[case]
    values = {count: -harm if higher else harm for count, harm in zip((15, 10, 5), harms, strict=True)}
    found = curve_of(deaf, values, higher=higher)
    assert found == pytest.approx(prices, abs=0.02)
    assert list(found) == sorted(found)


def test_what_costs_nothing_goes_evenly(deaf: Graph) -> None:
    found = sensitivity(deaf, lambda model: 0.0)
    counts = [axis.kept_count for axis in secateur.plan(deaf, "macs=0.5", allocation=found).axes.values()]
    assert max(counts) - min(counts) <= 1


def test_groups_that_were_not_measured_are_named(deaf: Graph) -> None:
    found = sensitivity(deaf, units, select="loud: protect")
    assert [curve.name for curve in found.curves] == ["quiet"]
    with pytest.raises(InputError, match="the allocation has no measurement of loud\nmeasure again with"):
        secateur.plan(deaf, "macs=0.9", allocation=found)
    plan = secateur.plan(deaf, "macs=0.9", allocation=found, select=Select(protect=["loud"]))
    assert plan.axes["loud"].kept_count == 20
    with pytest.raises(InputError, match="nothing was measured for 'loud'; measured: quiet"):
        found.curve("loud")


def test_an_allocation_of_another_model_is_refused(deaf: Graph) -> None:
    wide = Deaf()
    wide.loud, wide.out1 = nn.Linear(6, 30), nn.Linear(30, 3)
    found = sensitivity(secateur.trace(wide.eval(), torch.zeros(1, 6)), units)
    with pytest.raises(InputError, match="measured on another model: 'loud' had 30 units, here it has 20"):
        secateur.plan(deaf, "macs=0.9", allocation=found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"allocation": "s.json"}, "allocation='s.json' is not a Sensitivity\nmeasure one with"),
        ({"scope": "axis"}, "scope='axis' takes the same share of each axis"),
    ],
)
def test_what_is_no_allocation(deaf: Graph, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        secateur.plan(deaf, "macs=0.9", **{"allocation": sensitivity(deaf, units, ratios=[0.5]), **options})


def test_the_table_is_sorted_by_sensitivity(deaf: Graph) -> None:
    found = sensitivity(deaf, Judge(deaf), ratios=[0.5, 0.25])
    lines = str(found).splitlines()
    assert lines[0] == "0 for the dense model; change after cutting one group (lower is better)"
    assert lines[2].split("  ")[0] == "axes, most sensitive first"
    assert [line.split()[:2] for line in lines[3:]] == [["loud", "20"], ["quiet", "20"]]
    assert float(lines[3].split()[2]) == pytest.approx(found.curve("loud").points[0].value, rel=1e-3)


def test_a_plot_has_a_line_per_axis(deaf: Graph, tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="needs secateur[plot]")
    found = sensitivity(deaf, Judge(deaf), ratios=[0.5, 0.25])
    found.plot(tmp_path / "s.html")
    page = (tmp_path / "s.html").read_text()
    start = page.rindex("Plotly.newPlot(")
    data, _ = json.JSONDecoder().raw_decode(page, page.index("[", start))
    assert [line["name"] for line in data] == ["loud", "quiet"]
    assert data[0]["x"] == [100.0, 50.0, 25.0]
    assert data[0]["y"] == [found.dense, *(point.value for point in found.curve("loud").points)]


def test_a_plot_without_plotly_or_in_another_format(
    deaf: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = sensitivity(deaf, units, ratios=[0.5])
    with pytest.raises(InputError, match=r"s.png does not end in .html\nplots are HTML pages"):
        found.plot(tmp_path / "s.png")
    monkeypatch.setitem(__import__("sys").modules, "plotly", None)
    with pytest.raises(InputError, match=r"plots need plotly\ninstall it: pip install 'secateur\[plot\]'"):
        found.plot(tmp_path / "s.html")
