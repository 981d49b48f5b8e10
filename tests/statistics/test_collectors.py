"""Sums are those that one gets by hand, on models of every kind of read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets import Parts
from reads import CASES
from secateur.graph.graph import Graph
from secateur.graph.parts import PrunableAxis
from secateur.statistics.calibration import calibrate
from secateur.statistics.sums import Statistics, Sums
from secateur.trace.tracing import trace

EVERY = pytest.mark.parametrize("name", CASES)


def close(x: Tensor | None, y: Tensor) -> bool:
    return x is not None and torch.allclose(x, y.double(), rtol=1e-9, atol=1e-9)


def mean_of_squares(output: Tensor, _: Any) -> Tensor:
    return output.square().flatten(1).sum(1).mean()


@EVERY
def test_moments(name: str):
    graph, model, x = CASES[name].make()
    found = calibrate(graph, [x[:4], x[4:]])
    for weight, reads in CASES[name].reads(model, x).items():
        rows = torch.cat([read.flatten(0, -2) for read in reads]).detach()
        assert close(found.get(weight, "count"), torch.tensor(len(rows)))
        assert close(found.get(weight, "sum"), rows.sum(0))
        assert close(found.get(weight, "square"), rows.square().sum(0))
        assert close(found.get(weight, "absolute"), rows.abs().sum(0))
        assert close(found.get(weight, "zeros"), (rows == 0).sum(0))


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith(("conv", "transposed"))])
def test_gram_of_rows(name: str):
    graph, model, x = CASES[name].make()
    found = calibrate(graph, [x[:4], x[4:]], needs={"gram"})
    for weight, reads in CASES[name].reads(model, x).items():
        rows = torch.cat([read.flatten(0, -2) for read in reads]).detach()
        rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
        assert close(found.get(weight, "gram"), (rows.T @ rows)[None])


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": (2, 1)}])
def test_gram_of_patches(groups: int, options: dict[str, Any]):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=groups, **options), nn.Flatten())
    x = torch.randn(5, 2, 7, 6)
    found = calibrate(trace(model.double(), x.double()), [x[:2].double(), x[2:].double()], needs={"gram"}, places=1000)
    patches = F.unfold(model[:2](x.double()), 3, **options).detach()  # (n, channels times kernel, places)
    rows = patches.transpose(1, 2).flatten(0, 1).unflatten(1, (groups, -1)).transpose(0, 1)
    rows = torch.cat([rows, rows.new_ones(*rows.shape[:2], 1)], 2)
    assert close(found.get("2.weight", "gram"), rows.transpose(1, 2) @ rows)


@pytest.mark.parametrize("name", ["conv_dilated", "conv_grouped", "conv_1d", "conv_3d", "conv"])
def test_gram_makes_the_outputs(name: str):
    """The sum of the results follows from the last column: W times the sum of patches, and the bias by their count."""
    graph, model, x = CASES[name].make()
    gram = calibrate(graph, [x], needs={"gram"}, places=10**6).get("b.weight", "gram")
    assert gram is not None
    made = model.b(F.relu(model.a(x))).movedim(1, -1).flatten(0, -2).sum(0)  # type: ignore[operator]
    weight = model.b.weight.unflatten(0, (len(gram), -1)).flatten(2)  # type: ignore[union-attr]
    by_moments = (weight @ gram[:, :-1, -1:]).flatten() + model.b.bias * gram[0, -1, -1]  # type: ignore[operator]
    assert close(by_moments.detach(), made.detach())


def test_gram_draws_so_many_places_of_each_image():
    graph, _, x = CASES["conv"].make()
    gram = calibrate(graph, [x], needs={"gram"}, places=3).get("a.weight", "gram")
    assert gram is not None
    assert gram[0, -1, -1] == 3 * len(x)


@EVERY
def test_gates_are_those_of_each_example_alone(name: str):
    graph, _, x = CASES[name].make()
    together = calibrate(graph, [(x[:4], None), (x[4:], None)], needs={"gates"}, loss=mean_of_squares)
    alone = calibrate(graph, [(one[None], None) for one in x], needs={"gates"}, loss=mean_of_squares)
    for axis in _heard(name, graph, together):
        for quantity in ("gate", "gate_absolute", "gate_square"):
            found = together.get(axis.name, quantity)
            assert found is not None
            assert found.any()
            assert close(found, alone.get(axis.name, quantity)), quantity  # type: ignore[arg-type]


def _heard(name: str, graph: Graph, found: Statistics) -> list[PrunableAxis]:
    heard = [axis for axis in graph.axes if found.get(axis.name, "gate_heard") is not None]
    assert len(graph.axes) - len(heard) == CASES[name].unheard
    return heard


def _gated(m: Any, x: Tensor) -> Tensor:
    """`factor` multiplies the units that `b` and `c` read, example by example."""
    factor = getattr(m, "factor", None)
    h = F.gelu(m.a(x)) if factor is None else F.gelu(m.a(x)) * factor
    return m.b(h) + F.relu(m.c(h))


def test_gates_are_derivatives_by_a_factor():
    torch.manual_seed(0)
    model = Parts(_gated, a=nn.Linear(4, 8), b=nn.Linear(8, 3), c=nn.Linear(8, 3)).double()
    x, y = torch.randn(6, 4).double(), torch.tensor([0, 1, 2, 0, 1, 2])
    found = calibrate(trace(model, x), [(x[:4], y[:4]), (x[4:], y[4:])], needs={"gates"}, loss=F.cross_entropy)
    model.factor = torch.ones(6, 8, requires_grad=True, dtype=torch.float64)
    F.cross_entropy(model(x), y, reduction="sum").backward()
    gates = model.factor.grad
    assert gates is not None
    assert close(found.get("a", "gate"), gates.sum(0))
    assert close(found.get("a", "gate_absolute"), gates.abs().sum(0))
    assert close(found.get("a", "gate_square"), gates.square().sum(0))
    assert close(found.get("a", "gate_batch"), gates[:4].sum(0).abs() + gates[4:].sum(0).abs())
    assert close(found.get("a", "gate_heard"), torch.tensor(6))


def _recurrent(m: Any, x: Tensor) -> Tensor:
    """`factor` multiplies the units that a recurrent and a linear layer read."""
    factor = getattr(m, "factor", 1.0)
    h = F.relu(m.a(x)) * factor if isinstance(factor, Tensor) else F.relu(m.a(x))
    return m.b(h).mean(1) + m.c(m.rnn(h)[0][:, -1])


def test_gates_count_readers_that_are_not_recorded():
    torch.manual_seed(0)
    parts = {"a": nn.Linear(4, 8), "b": nn.Linear(8, 3), "rnn": nn.GRU(8, 5, batch_first=True), "c": nn.Linear(5, 3)}
    model = Parts(_recurrent, **parts).double()
    x = torch.randn(4, 3, 4).double()
    found = calibrate(trace(model, x), [(x, None)], needs={"gates"}, loss=mean_of_squares)
    model.factor = torch.ones(8, requires_grad=True, dtype=torch.float64)
    mean_of_squares(model(x), None).backward()
    assert close(found.get("a", "gate"), 4 * model.factor.grad)  # type: ignore[operator]


def test_gradients_and_their_squares():
    graph, model, x = CASES["linear"].make()
    found = calibrate(graph, [(x[:4], None), (x[4:], None)], needs={"gradients"}, loss=mean_of_squares)
    steps = [
        torch.autograd.grad(mean_of_squares(model(part), None), list(model.parameters())) for part in (x[:4], x[4:])
    ]
    for (name, _), *gradients in zip(model.named_parameters(), *steps, strict=True):
        assert close(found.get(name, "gradient"), torch.stack(gradients).sum(0))
        assert close(found.get(name, "gradient_square"), torch.stack(gradients).square().sum(0))


@EVERY
def test_sums_do_not_depend_on_where_batches_end(name: str):
    graph, _, x = CASES[name].make()

    def run(*ends: int) -> Statistics:
        parts = [(part, None) for part in x.tensor_split(ends)]
        return calibrate(graph, parts, needs={"moments", "gram", "gates"}, loss=mean_of_squares, places=2)

    one, other = run(), run(1, 4)
    sequences = ("attention", "attention_sequence_first", "encoder_layer", "windows", "inner_windows")
    drawn = {"gram"} if name in sequences else set()  # of tokens or windows places are drawn, not of examples
    by_weights = {axis.name for axis in graph.axes} - {axis.name for axis in _heard(name, graph, one)}
    assert one.examples == other.examples == 6
    assert one.sums.keys() == other.sums.keys()
    for (key, quantity), tensor in one.sums.items():
        assert quantity in {"gate_batch", *drawn} or key in by_weights or close(other.get(key, quantity), tensor), (
            key,
            quantity,
        )


def test_sums_take_no_more_memory_with_more_batches():
    graph, _, x = CASES["encoder_layer"].make()
    needs = {"moments", "gram", "gates", "gradients", "curvature"}
    few, many = (calibrate(graph, [(x, None)] * n, needs=needs, loss=mean_of_squares) for n in (1, 5))
    assert {key: t.shape for key, t in few.sums.items()} == {key: t.shape for key, t in many.sums.items()}
    assert all(t.untyped_storage().nbytes() == t.nbytes for t in many.sums.values())


def test_sums_are_of_their_own():
    sums, value = Sums(), torch.ones(2, dtype=torch.float64)
    sums.add("a", "sum", value)
    sums.add("a", "sum", value)
    assert value.tolist() == [1, 1]
    assert sums["a", "sum"].tolist() == [2, 2]


def test_bfloat16_is_summed_in_more():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)).bfloat16()
    x = torch.full((4096, 4), 1.0, dtype=torch.bfloat16)
    found = calibrate(trace(model, x), [(x, None)], needs={"moments", "gram", "gates"}, loss=mean_of_squares)
    one = model[0](x[:1])[0].double()
    for quantity, each in (("sum", one), ("square", one.square()), ("absolute", one.abs())):
        assert torch.allclose(found.get("1.weight", quantity), 4096 * each, rtol=1e-4)  # type: ignore[arg-type]
    gate = found.get("0", "gate")
    assert gate is not None
    assert gate.dtype == torch.float64
    assert gate.isfinite().all()
