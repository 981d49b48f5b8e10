from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur
from nets import NETS, Parts, graph_of
from secateur import InputError, PruningError
from secateur.base.nested import tensors_in
from secateur.importance import CRITERIA, AxisSlices, needs_of_importance, score
from secateur.statistics.calibration import calibrate
from secateur.statistics.sums import NEEDS, Statistics
from secateur.testing import check_criterion

CHANCE = ("random", "hessian")  # draw random numbers, so that units have no scores but in their places
CUT = [name for name, net in NETS.items() if net.axes]
ALL = pytest.mark.parametrize("criterion", CRITERIA)


def shape_of(axis: Any) -> tuple[int, ...]:
    return (axis.size,) if axis.outer is None else (axis.outer.n, axis.size)


def loss(output: Any, targets: Any) -> Tensor:
    return torch.stack([t.square().mean() for t in tensors_in(output) if t.is_floating_point()]).sum()


@functools.cache
def statistics_of(name: str) -> Statistics:
    batches = [(NETS[name].example(seed), None) for seed in (3, 4)]
    return calibrate(graph_of(name), batches, needs=NEEDS, loss=loss)


def scored(name: str, criterion: Any, **options: Any) -> dict[str, Tensor]:
    return score(graph_of(name), criterion, statistics=statistics_of(name), **options)


@ALL
@pytest.mark.parametrize("name", CUT)
def test_one_finite_score_for_each_unit(name: str, criterion: str) -> None:
    graph, scores = graph_of(name), scored(name, criterion)
    assert {name: tuple(value.shape) for name, value in scores.items()} == {a.name: shape_of(a) for a in graph.axes}
    assert all(value.dtype == torch.float64 and bool(value.isfinite().all()) for value in scores.values())


@ALL
@pytest.mark.parametrize("name", CUT)
def test_scores_are_positive_with_the_norm_that_is_asked_for(name: str, criterion: str) -> None:
    for norm, by in (("mean", torch.mean), ("max", torch.max), ("sum", torch.sum), ("l2", torch.linalg.vector_norm)):
        for value in scored(name, f"{criterion}/{norm}").values():
            assert bool((value >= 0).all())
            assert float(by(value)) == pytest.approx(1.0) or not value.any()


@ALL
@pytest.mark.parametrize("name", ["attention", "group_norm", "layer_norm", "plain_cnn", "residual"])
def test_the_laws_of_criteria(name: str, criterion: str) -> None:
    net = NETS[name]
    ordered, lowest = criterion not in CHANCE, criterion not in ("random", "fpgm")
    check_criterion(criterion, net.make(), net.example(), ordered=ordered, lowest=lowest)


@ALL
def test_the_same_scores_twice(criterion: str) -> None:
    first, second = (scored("attention", criterion, seed=5) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("criterion", [name for name in CRITERIA if not needs_of_importance(name)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_precision_of_the_weights_changes_little(criterion: str, dtype: torch.dtype) -> None:
    net = NETS["plain_cnn"]
    model = net.make().to(dtype)
    scores = score(secateur.trace(model, tuple(x.to(dtype) for x in net.example())), criterion)
    for name, value in score(graph_of("plain_cnn"), criterion).items():
        torch.testing.assert_close(scores[name], value, rtol=1e-2, atol=1e-2)


def per_unit(name: str, slices: Sequence[str], element: Callable[[Tensor], Tensor]) -> Tensor:
    """The sum of `element` over the slices [unit, ...] of these parameters."""
    parameters = dict(graph_of(name).model.named_parameters())
    values = [element(parameters[s].detach().double()) for s in slices]
    return torch.stack([v.reshape(v.shape[0], -1).sum(1) for v in values]).sum(0)


@pytest.mark.parametrize(
    ("name", "axis", "slices"),
    [
        ("plain_cnn", "conv1", ["conv1.weight", "conv1.bias"]),
        ("plain_cnn", "conv2", ["conv2.weight", "conv2.bias"]),
        ("residual", "b", ["b.weight", "b.bias", "shortcut.weight", "shortcut.bias"]),
        ("shared", "bias", ["up.weight", "bias"]),
        ("dense", "stem", ["stem.weight", "stem.bias"]),
    ],
)
def test_norms_over_every_layer_that_puts_a_unit_out(name: str, axis: str, slices: list[str]) -> None:
    for criterion, expected in (
        ("l1", per_unit(name, slices, torch.abs)),
        ("l2", per_unit(name, slices, torch.square).sqrt()),
    ):
        found = score(graph_of(name), criterion)[axis]
        torch.testing.assert_close(found, expected / expected.mean(), rtol=1e-5, atol=0)


def test_scale_factors_of_norms() -> None:
    graph = graph_of("plain_cnn")
    scores, l2 = score(graph, "bn_scale"), score(graph, "l2")
    gamma = graph.model.bn.weight.detach().abs().double()  # type: ignore[union-attr]
    torch.testing.assert_close(scores["conv1"], gamma / gamma.mean())
    assert torch.equal(scores["conv2"], l2["conv2"])


def test_halves_of_a_gate_are_summed() -> None:
    weight, bias = (p.detach().double() for p in graph_of("gated").model.a.parameters())  # type: ignore[union-attr]
    squares = weight.flatten(1).square().sum(1) + bias.square()
    expected = (squares[:4] + squares[4:]).sqrt()
    torch.testing.assert_close(score(graph_of("gated"))["a"], expected / expected.mean(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("criterion", ["l1", "l2"])
def test_units_of_a_group_are_scored_for_each_group(criterion: str) -> None:
    graph = graph_of("group_norm")
    p = 1 if criterion == "l1" else 2
    total = sum(v.detach().double().reshape(12, -1).abs().pow(p).sum(1) for v in graph.model.a.parameters())  # type: ignore[union-attr]
    expected = total.view(3, 4).pow(1 / p)
    torch.testing.assert_close(score(graph, criterion)["a[1]"], expected / expected.mean(), rtol=1e-5, atol=0)


def interleaved() -> nn.Module:
    """Groups of channels, shuffled, meet a second layer: its units are stored the other way about."""

    def run(self: Any, x: Tensor) -> Tensor:
        y = self.a(x)
        y = y.unflatten(-1, (3, y.shape[-1] // 3)).transpose(-1, -2).flatten(-2)
        return self.c(y + self.b(x))

    return Parts(run, a=nn.Linear(4, 12), b=nn.Linear(4, 12), c=nn.Linear(12, 5))


def halved() -> nn.Module:
    """Heads whose channels are cut in two."""

    def run(self: Any, x: Tensor) -> Tensor:
        q = self.a(x).view(*x.shape[:-1], 3, -1)
        half = q.shape[-1] // 2
        return self.c(torch.cat([q[..., :half], q[..., half:].relu()], -1).flatten(-2))

    return Parts(run, a=nn.Linear(4, 12), c=nn.Linear(12, 5))


@pytest.mark.parametrize(
    ("build", "axis", "rows"),
    [
        (interleaved, "a", {"a.weight": range(12), "b.weight": [3 * d + g for g in range(3) for d in range(4)]}),
        (halved, "a[0]", {"a.weight": [4 * h + d for h in range(3) for d in (0, 1)]}),
        (halved, "a[1]", {"a.weight": [4 * h + d for h in range(3) for d in (2, 3)]}),
    ],
)
def test_units_are_found_wherever_they_lie(
    build: Callable[[], nn.Module], axis: str, rows: dict[str, Sequence[int]]
) -> None:
    model = build()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)[:] = 0.0 if name.endswith("bias") else torch.randn(parameter.shape)
    graph = secateur.trace(model, torch.zeros(2, 4))
    parameters = dict(model.named_parameters())
    total = sum(parameters[name][list(order)].double().abs().sum(1) for name, order in rows.items())
    expected = (total / total.mean()).view(3, -1)  # type: ignore[union-attr]
    torch.testing.assert_close(score(graph, "l1")[axis], expected, rtol=1e-5, atol=0)


def test_a_function_of_ones_own() -> None:
    seen: list[tuple[str, tuple[int, ...]]] = []

    def mine(axis: AxisSlices) -> Tensor:
        seen.append((axis.name, axis.shape))
        return torch.arange(axis.shape[-1]).float().expand(axis.shape)

    plan = secateur.plan(graph_of("plain_cnn"), "channels=0.5", importance=mine)
    assert seen == [("conv1", (8,)), ("conv2", (12,))]
    assert (plan.axes["conv1"].kept, plan.notes["importance"]) == ((4, 5, 6, 7), "given by the user")


@pytest.mark.parametrize("values", [torch.arange(8), list(range(8)), torch.arange(8).bfloat16()])
def test_scores_of_ones_own(values: Any) -> None:
    scores = score(graph_of("plain_cnn"), {"conv1": values})
    assert scores["conv1"].tolist() == list(range(8))
    assert scores["conv2"].tolist() == [1.0] * 12


@pytest.mark.parametrize("values", [torch.arange(4.0), torch.arange(4.0).expand(3, 4)])
def test_scores_of_ones_own_for_units_of_groups(values: Tensor) -> None:
    plan = secateur.plan(graph_of("group_norm"), "channels=0.5", importance={"a[1]": values})
    assert plan.axes["a[1]"].kept == ((2, 3),) * 3


@pytest.mark.parametrize(
    ("importance", "error", "message"),
    [
        ("l22", InputError, "no importance is named 'l22'; did you mean 'l2'.*\nknown: l1, l2, lp, .*random"),
        ({"conv9": torch.ones(8)}, InputError, "no prunable axis is named 'conv9'"),
        (
            {"conv1": torch.ones(9)},
            InputError,
            r"the scores of 'conv1' have shape \(9,\)\ngive one for each unit: \(8,\)",
        ),
        ({"conv1": torch.ones(1, 8)}, InputError, r"the scores of 'conv1' have shape \(1, 8\)"),
        (lambda axis: torch.ones(()), InputError, r"the scores of 'conv1' have shape \(\)"),
        (
            {"conv1": torch.full((8,), torch.nan)},
            PruningError,
            r"the scores of 'conv1' are not finite: \[nan, nan, nan\]",
        ),
        (lambda axis: torch.full(axis.shape, -torch.inf), PruningError, r"not finite: \[-inf, -inf, -inf\]"),
    ],
)
def test_scores_that_cannot_be(importance: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        secateur.plan(graph_of("plain_cnn"), "macs=0.5", importance=importance)


@pytest.mark.parametrize("criterion", ["l1", "l2"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(criterion: str, value: float) -> None:
    net = NETS["plain_cnn"]
    model = net.make()
    model.conv2.weight.data[3, 0, 0, 0] = value
    with pytest.raises(PruningError, match=r"'conv2' are not finite: .*\nlook for NaN or infinite weights"):
        secateur.plan(secateur.trace(model, net.example()), "macs=0.5", importance=criterion)


def test_a_model_of_zeros_is_scored_zero() -> None:
    net = NETS["plain_cnn"]
    model = net.make()
    for parameter in model.parameters():
        parameter.data.zero_()
    assert all(not value.any() for value in score(secateur.trace(model, net.example())).values())


def test_every_registered_criterion_is_exported() -> None:
    for name, make in CRITERIA.items():
        kind = type(make(0))
        assert kind.__name__ in secateur.importance.__all__, name
        assert getattr(secateur.importance, kind.__name__) is kind, name


ROOM = Path(secateur.importance.__file__).parent
ARGUMENT_CHECKS = {"scoring.py"}  # the file that checks the types of arguments


def reads_of_types(source: str) -> list[str]:
    """The calls of `isinstance`, `issubclass` and `type`, and the imports of `torch.nn`, in a source file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found += [node.func.id] if node.func.id in ("isinstance", "issubclass", "type") else []
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("torch.nn")]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name for name in names if name.startswith("torch.nn")]
        elif isinstance(node, ast.Attribute) and node.attr == "nn":
            found.append("torch.nn")
    return found


@pytest.mark.parametrize("path", sorted(ROOM.glob("*.py")), ids=lambda path: path.name)
def test_no_criterion_asks_for_the_type_of_a_layer(path: Path) -> None:
    found = reads_of_types(path.read_text(encoding="utf-8"))
    assert [one for one in found if one != "isinstance" or path.name not in ARGUMENT_CHECKS] == []


@pytest.mark.parametrize(
    "source",
    ["isinstance(x, y)", "type(x)", "from torch import nn", "import torch.nn as n", "torch.nn.Linear"],
)
def test_that_check_can_fail(source: str) -> None:
    assert reads_of_types(source)


def test_chance_depends_on_seed_and_name_and_not_on_the_other_axes() -> None:
    dense, residual = (score(graph_of(name), "random", seed=2) for name in ("dense", "residual"))
    assert torch.equal(dense["stem"], residual["stem"])
    assert not torch.equal(dense["stem"], score(graph_of("dense"), "random", seed=3)["stem"])
    assert not torch.equal(dense["a"], dense["b"][:4])
