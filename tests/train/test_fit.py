from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from secateur.errors import InputError, PruningError
from secateur.train import Gradients, Progress, TrainOptions, evaluate, fit
from secateur.train.options import OPTIMIZERS


def net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))


def blobs(batches: int = 10) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (batches, 32), generator=generator)
    x = torch.randn(batches, 32, 2, generator=generator) + 4.0 * y.unsqueeze(-1)
    return list(zip(x, y, strict=True))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])


@dataclass
class Numbered:
    asked: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("the epoch has a number")

    def epoch(self, number: int) -> Iterator[Any]:
        self.asked.append(number)
        return iter(blobs(1))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_learns(optimizer: str) -> None:
    model = net()
    history = fit(model, blobs(), epochs=5, options=TrainOptions(optimizer=optimizer, lr=0.05))
    assert (len(history.losses), history.steps) == (5, 50)
    assert history.losses[-1] < history.losses[0]
    assert evaluate(model, blobs()) > 0.95


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_seed_decides(optimizer: str) -> None:
    models = [net(), net(), net()]
    for model, seed, noise in zip(models, (1, 1, 2), (5, 6, 5), strict=True):
        torch.manual_seed(noise)
        fit(model, blobs(), epochs=1, options=TrainOptions(optimizer=optimizer, seed=seed))
    first, again, other = map(weights, models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_modes_random_state_and_gradients_afterwards() -> None:
    model = net()
    model.eval()
    state = torch.get_rng_state()
    fit(model, blobs(1), epochs=1)
    assert not any(module.training for module in model.modules())
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_old_gradients_are_not_used() -> None:
    clean, dirty = net(), net()
    for parameter in dirty.parameters():
        parameter.grad = torch.full_like(parameter, 100)
    for model in (clean, dirty):
        fit(model, blobs(1), epochs=1)
    assert torch.equal(weights(clean), weights(dirty))


def test_frozen_parameters_stay() -> None:
    model = net().requires_grad_(False)
    model[4].requires_grad_(True)
    first, last = model[0].weight.clone(), model[4].weight.clone()
    fit(model, blobs(2), epochs=1)
    assert torch.equal(model[0].weight, first)
    assert not torch.equal(model[4].weight, last)
    assert not model[0].weight.requires_grad


def test_the_rate_follows_a_cosine_and_every_step_is_reported() -> None:
    seen: list[Progress] = []
    fit(net(), blobs(5), epochs=2, options=TrainOptions(lr=0.1), progress=seen.append)
    assert [p.lr for p in seen] == pytest.approx([0.05 * (1 + math.cos(math.pi * t / 10)) for t in range(10)])
    assert [(p.step, p.steps, p.epoch) for p in seen] == [(t + 1, 10, 1 + t // 5) for t in range(10)]


def test_the_rate_rises_before_it_falls() -> None:
    seen: list[float] = []
    fit(net(), blobs(6), epochs=1, options=TrainOptions(lr=0.1, warmup=2), progress=lambda p: seen.append(p.lr))
    fall = [0.05 * (1 + math.cos(math.pi * t / 4)) for t in range(4)]
    assert seen == pytest.approx([0.1 / 3, 0.2 / 3, *fall])


def test_an_optimizer_of_ones_own_keeps_its_rates_and_its_memory() -> None:
    model = net()
    groups = [{"params": list(model[0].parameters()), "lr": 0.01}, {"params": list(model[4].parameters())}]
    optimizer = torch.optim.Adam(groups, lr=0.1)
    rates: list[list[float]] = []
    for _ in range(2):
        fit(
            model,
            blobs(2),
            epochs=1,
            optimizer=optimizer,
            progress=lambda _: rates.append([group["lr"] for group in optimizer.param_groups]),
        )
    assert rates == [pytest.approx(pair) for pair in ([0.01, 0.1], [0.005, 0.05]) * 2]
    assert optimizer.state[model[0].weight]["step"] == 4


def test_a_penalty_pulls_after_every_backward_pass() -> None:
    class Pull:
        def __init__(self, parameter: Tensor) -> None:
            self.parameter, self.calls = parameter, 0

        def __call__(self) -> Tensor:
            return self.parameter.sum()

        def add_gradients_(self) -> None:
            assert self.parameter.grad is not None
            self.calls += 1
            self.parameter.grad.add_(1.0)

    plain, pulled = net(), net()
    options = TrainOptions(lr=0.1, gradients=Gradients(clip=1e-9))
    pull = Pull(pulled[4].bias)
    fit(plain, blobs(1), epochs=1, options=options)
    fit(pulled, blobs(1), epochs=1, options=options, penalties=[pull])
    moved = plain[4].bias - pulled[4].bias  # by what was added after clipping, with Nesterov's momentum
    assert torch.allclose(moved, torch.full((2,), 0.19), rtol=1e-4)
    assert pull.calls == 1


def test_gradients_that_are_not_finite_cannot_be_clipped() -> None:
    def steep(output: Tensor, targets: Tensor) -> Tensor:
        return (output - output.detach()).abs().sqrt().sum()  # 0, with an infinite slope

    options = TrainOptions(loss=steep, gradients=Gradients(clip=1.0))
    with pytest.raises(PruningError, match=r"the norm of the gradients is nan, so they cannot be clipped to 1\.0"):
        fit(net(), blobs(1), epochs=1, options=options)


def test_each_epoch_is_asked_for_by_its_number() -> None:
    source = Numbered()
    fit(net(), source, epochs=3)
    assert source.asked == [0, 1, 2]


def test_double_precision_models() -> None:
    model = net().double()
    assert math.isfinite(fit(model, blobs(1), epochs=1).losses[0])
    assert model[0].weight.dtype == torch.float64


def test_label_smoothing_is_that_of_cross_entropy() -> None:
    x, y = blobs(1)[0]
    model = nn.Linear(2, 2)
    expected = nn.functional.cross_entropy(model(x), y, label_smoothing=0.1).item()
    assert fit(model, [(x, y)], epochs=1, options=TrainOptions(label_smoothing=0.1)).losses == (expected,)


def test_a_loss_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def loss(output, targets): return (output - targets).square().mean()")
    batches = [(torch.randn(8, 2), torch.zeros(8, 2))]
    models = [nn.Linear(2, 2) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    for model, loss in zip(models, (nn.functional.mse_loss, f"{tmp_path}/mine.py:loss"), strict=True):
        fit(model, batches, epochs=1, options=TrainOptions(loss=loss))
    assert torch.allclose(weights(models[0]), weights(models[1]))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite(bad: float) -> None:
    x, y = blobs(1)[0]
    model, seen = net(), list[Tensor]()
    with pytest.raises(PruningError) as caught:
        fit(
            model,
            [(x, y), (x * bad, y)],
            epochs=2,
            options=TrainOptions(lr=0.5),
            progress=lambda _: seen.append(torch.cat([p.detach().flatten() for p in model.parameters()])),
        )
    assert "the loss is nan at step 2 of 4 (epoch 1)" in str(caught.value)
    assert "now lr=0.5" in str(caught.value)
    assert "TrainOptions(lr=0.05)" in str(caught.value)
    assert not isinstance(caught.value, InputError)
    assert torch.equal(seen[-1], torch.cat([p.detach().flatten() for p in model.parameters()]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adam"}, "no optimizer 'adam'; known: sgd, adamw; did you mean 'adamw'?"),
        ({"lr": 0.0}, "lr is 0.0; it must be above 0"),
        ({"lr": math.nan}, "lr is nan; it must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0; it must be 0 or above"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0; it must be 0 or above, and below 1"),
        ({"seed": -1}, "seed is -1; it must be 0 or above, and below 4294967296"),
        ({"lr": "0.1"}, "lr is '0.1', which is not a number; it must be above 0"),
        ({"lr": True}, "lr is True, which is not a number"),
        ({"weight_decay": None}, "weight_decay is None, which is not a number; it must be 0 or above"),
        ({"label_smoothing": "x"}, "label_smoothing is 'x', which is not a number"),
        ({"seed": 1.5}, "seed is 1.5, which is not a whole number"),
        ({"warmup": "3"}, "warmup is '3', which is not a whole number; it is a number of steps"),
        ({"gradients": 4}, "gradients is 4; give Gradients(accumulate=4, clip=1.0)"),
        ({"warmup": -1}, "warmup is -1; it is a number of steps, 0 or above"),
        ({"loss": print, "label_smoothing": 0.1}, "label_smoothing is part of the default loss; leave it out"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        TrainOptions(**options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"log": 5}, "log=5 is not a log; give 'tensorboard', 'trackio' or a function (step, numbers)"),
        ({"penalties": [5]}, "penalties holds 5, which is not a penalty; give one such as ScaleL1(graph, 1e-4)"),
        ({"penalties": 5}, "penalties is 5; give a list: penalties=[ScaleL1(graph, 1e-4)]"),
    ],
)
def test_what_is_no_log_and_no_penalty(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        fit(net(), blobs(1), epochs=1, **asked)


@pytest.mark.parametrize(("name", "value"), [("accumulate", "2"), ("accumulate", 1.5), ("clip", "1")])
def test_gradients_that_are_no_numbers(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} is {value!r}, which is not a "):
        Gradients(**{name: value})


def test_nothing_to_do() -> None:
    with pytest.raises(InputError, match="epochs is 0; it must be a whole number, at least 1"):
        fit(net(), blobs(1), epochs=0)
    with pytest.raises(InputError, match="there is nothing to train on: 0 batches"):
        fit(net(), [], epochs=1)
    with pytest.raises(InputError, match="Sequential has no parameter that requires gradients; nothing to train"):
        fit(net().requires_grad_(False), blobs(1), epochs=1)


def test_mixed_precision_needs_the_device() -> None:
    with pytest.raises(InputError, match="mixed_precision is True, but device cpu does not have it; leave it out"):
        fit(net(), blobs(1), epochs=1, options=TrainOptions(mixed_precision=True))


def test_cross_entropy_needs_scores() -> None:
    model = nn.LSTM(2, 2)
    with pytest.raises(InputError, match="the model returned tuple, not a tensor of scores\ngive your own loss"):
        fit(model, blobs(1), epochs=1)


def of(batches: Any = None, **options: Any) -> Any:
    loss = options.pop("loss", None)
    given = blobs(1) if batches is None else batches
    return lambda model: fit(model, given, epochs=1, options=TrainOptions(loss=loss), **options)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(blobs(1))


MISTAKES: dict[str, tuple[Any, str]] = {
    "a triple": (of([(1, 2, 3)]), "the data yielded a tuple of 3, not a pair; yield (inputs, targets)"),
    "inputs alone": (of([torch.ones(2)]), "the data yielded a Tensor, not a pair"),
    "a generator": (of(iter(blobs(1))), "list_iterator has no length: object of type"),
    "a stream": (of(DataLoader(Stream())), "DataLoader has no length: "),
    "a data set": (of(TensorDataset(torch.ones(1))), "TensorDataset holds examples; give batches: DataLoader(dataset"),
    "half an epoch": (lambda model: fit(model, blobs(1), epochs=1.5), "epochs is 1.5; it must be a whole number"),
    "a loss of each": (of(loss=lambda output, targets: output[:, 0]), "the loss is a tensor (32,); it must be one num"),
    "a float": (of(loss=lambda output, targets: 1.0), "the loss is a float; it must be one number with a gradient"),
    "loose": (of(loss=lambda o, t: o.detach().sum()), "the loss is a tensor () that depends on no parameter; it must"),
    "a name": (of(teacher="resnet"), "teacher is a str; give a model, or Distillation(model, ...)"),
    "a dict": (
        lambda model: fit(model, blobs(1), epochs=1, options={"lr": 1}),
        "options is a dict; give TrainOptions(lr=0.01, ...)",
    ),
    "a path": (of(checkpoint="run"), "checkpoint is 'run'; write Checkpointing('run', every=100)"),
    "another's optimizer": (
        of(optimizer=torch.optim.SGD(net().parameters())),
        "SGD holds no parameter of this Sequential, so nothing would be trained\n"
        "make it from model.parameters(); after",
    ),
    "LBFGS": (
        lambda model: of(optimizer=torch.optim.LBFGS(model.parameters()))(model),
        "LBFGS evaluates the loss several times in a step, which fit does not support; give another",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_leave_the_model_as_it_was(case: str) -> None:
    train, message = MISTAKES[case]
    model = net()
    with pytest.raises(InputError) as caught:
        train(model)
    assert message in str(caught.value)
    assert torch.equal(weights(model)[:32], weights(net())[:32])
