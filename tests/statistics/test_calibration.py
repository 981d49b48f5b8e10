"""Calibration leaves no trace in the model, and says what is wrong with what it is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets import NETS, Parts
from secateur.errors import InputError, PruningError
from secateur.statistics.calibration import calibrate
from secateur.statistics.listening import Listener
from secateur.statistics.sums import NEEDS
from secateur.trace.tracing import trace


def small() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
    return model, torch.randn(6, 2, 5, 5), torch.tensor([0, 1, 2, 0, 1, 2])


def counting(m: Any, x: Tensor) -> Tensor:
    m.calls += 1
    m.seen.append(len(x))
    m.buffer_total.add_(1)
    return m.b(F.dropout(F.relu(m.a(x)), 0.5, m.training))


def state_of(model: nn.Module) -> list[Any]:
    """All that calibration could change, with the tensors' values and identities."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [
        [(name, id(t), t._version, t.detach().clone().tolist(), t.requires_grad) for name, t in tensors],
        [(id(p.grad), None if p.grad is None else p.grad.tolist()) for p in model.parameters()],
        [(module.training, len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()],
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
    ]


@pytest.mark.parametrize("need", NEEDS)
def test_the_model_is_left_as_it_is(need: str):
    model, x, y = small()
    F.cross_entropy(model(x), y).backward()
    model[0].weight.requires_grad_(False)
    model[1].eval()
    graph = trace(model, x)
    before = state_of(model)
    calibrate(graph, [(x, y)], needs={need}, loss=F.cross_entropy)
    assert state_of(model) == before


def test_what_forward_keeps_is_put_back():
    parts = {"a": nn.Linear(4, 8), "b": nn.Linear(8, 2), "buffer_total": torch.zeros(1)}
    model = Parts(counting, calls=0, seen=[], **parts)
    graph = trace(model, torch.zeros(1, 4))
    model.calls, model.seen, model.buffer_total = 7, [7], torch.tensor([7.0])
    calibrate(graph, [torch.ones(3, 4)], needs={"moments"})
    assert (model.calls, model.seen, model.buffer_total.tolist()) == (7, [7], [7.0])


def test_the_model_is_left_as_it_is_when_the_loss_fails():
    model, x, y = small()
    graph, before = trace(model, x), state_of(model)
    with pytest.raises(ZeroDivisionError):
        calibrate(graph, [(x, y)], needs={"gates"}, loss=lambda output, y: 1 / 0)  # type: ignore[arg-type]
    assert state_of(model) == before


def test_frozen_parameters_have_gradients_too():
    model, x, y = small()
    options: dict[str, Any] = {"needs": {"gates", "gradients"}, "loss": F.cross_entropy}
    learning = calibrate(trace(model, x), [(x, y)], **options)
    frozen = calibrate(trace(model.requires_grad_(False), x), [(x, y)], **options)
    assert learning.sums.keys() == frozen.sums.keys()
    assert all(torch.equal(frozen.sums[key], tensor) for key, tensor in learning.sums.items())
    assert not any(p.requires_grad for p in model.parameters())


def test_norms_are_in_evaluation_mode():
    model, x, _ = small()
    found = calibrate(trace(model.train(), x), [x])
    wanted = model.eval()[:4](x).double().sum(0)
    assert torch.allclose(found.get("4.weight", "sum"), wanted, rtol=1e-5, atol=1e-5)  # type: ignore[arg-type]


def test_the_same_seed_draws_the_same_places():
    model, x, _ = small()
    graph = trace(model, x)
    first, again, other = (calibrate(graph, [x], needs={"gram"}, places=2, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(again.sums[key], tensor) for key, tensor in first.sums.items())
    assert not torch.equal(other.sums["0.weight", "gram"], first.sums["0.weight", "gram"])


def test_random_data_begin_at_the_seed():
    model, _, _ = small()

    class Noise:
        def __iter__(self) -> Any:
            return iter([torch.randn(2, 2, 5, 5)])

    graph = trace(model, torch.zeros(1, 2, 5, 5))
    first, again = (calibrate(graph, Noise()) for _ in range(2))
    assert torch.equal(first.sums["0.weight", "sum"], again.sums["0.weight", "sum"])


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", [name for name in NETS if name not in {"auxiliary", "bilinear"}])
def test_every_reader_is_recorded(name: str):
    """But bilinear layers, which have two operands, and what runs in training mode only."""
    net = NETS[name]
    model, heard = net.make(), set()
    graph = trace(model, net.example())
    with (
        torch.no_grad(),
        Listener(model, graph.readers, lambda read: heard.add(read.reader.weight), parts=True).running(),
    ):
        model(*net.example())
    assert heard == set(graph.readers)


def test_batches_of_keywords():
    model = Parts(lambda m, *, x, scale: m.b(m.a(x) * scale), a=nn.Linear(4, 8), b=nn.Linear(8, 2))
    batch = {"x": torch.ones(3, 4), "scale": 2.0}
    found = calibrate(trace(model, batch), [batch, (batch, None)])
    wanted = 12 * model.a(torch.ones(4)).double()  # type: ignore[operator]
    assert torch.allclose(found.sums["b.weight", "sum"], wanted, rtol=1e-5)


WRONG: dict[str, tuple[Callable[[Tensor], Iterable[Any]], dict[str, Any], type[Exception], str]] = {
    "nothing": (
        lambda x: [],
        {},
        InputError,
        "data contains no batches; a generator can be iterated only once\npass a list",
    ),
    "an empty batch": (lambda x: [x, x[:0]], {}, InputError, "batch 1 of data contains no examples"),
    "a tensor": (lambda x: x, {}, InputError, "data is a Tensor\npass batches"),
    "a number": (lambda x: 3, {}, InputError, "data is a int\npass batches"),  # type: ignore[arg-type, return-value]
    "a wrong item": (lambda x: [x, "x"], {}, InputError, "data yielded str as batch 1\nyield pairs"),
    "an unknown need": (lambda x: [x], {"needs": {"hessian"}}, InputError, "needs='hessian'\nknown: moments, gram"),
    "no loss": (lambda x: [x], {"needs": {"gates"}}, InputError, "gates are derivatives of a loss\npass loss="),
    "a vector": (
        lambda x: [x],
        {"needs": {"gates"}, "loss": lambda out, _: out.sum(1)},
        InputError,
        "the loss of a calibration batch is a tensor of shape (6,)\nreturn its mean",
    ),
    "a float": (
        lambda x: [x],
        {"needs": {"gradients"}, "loss": lambda out, _: out.sum().item()},
        InputError,
        "the loss of a calibration batch is a float\nreturn its mean over the batch, a scalar tensor",
    ),
    "nan": (
        lambda x: [x],
        {"needs": {"gates"}, "loss": lambda out, _: out.sum() * float("nan")},
        PruningError,
        "the loss of a calibration batch is nan\ncheck the data and the loss",
    ),
    "a constant": (
        lambda x: [x],
        {"needs": {"gates"}, "loss": lambda out, _: out.detach().sum()},
        InputError,
        "the loss of a calibration batch does not depend on the parameters",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_arguments_are_refused(what: str):
    model, x, _ = small()
    data, options, error, message = WRONG[what]
    with pytest.raises(error, match=re.escape(message)):
        calibrate(trace(model, x), data(x), **options)


def test_a_generator_can_be_gone_through_once():
    model, x, _ = small()
    graph, data = trace(model, x), iter([x])
    assert calibrate(graph, data).examples == 6
    with pytest.raises(InputError, match="data contains no batches"):
        calibrate(graph, data)


def test_a_model_of_one_batch_size_has_gates_of_batches():
    model = Parts(lambda m, x: m.b(m.a(x).view(6, -1)), a=nn.Linear(4, 8), b=nn.Linear(8, 2))
    x = torch.randn(6, 4)
    found = calibrate(trace(model, x), [(x, None)], needs={"gates"}, loss=lambda out, _: out.square().mean())
    assert torch.equal(found.sums["a", "gate"].abs(), found.sums["a", "gate_absolute"])
