from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from secateur.errors import InputError
from secateur.train import Checkpointing, Gradients, Progress, TrainOptions, fit
from secateur.train.accelerating import accelerator

CPU = torch.device("cpu")


def batches(count: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 4, generator=generator), torch.arange(8) % 3) for _ in range(count)]


def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


class DtypeOf(nn.Module):
    seen: torch.dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x.dtype
        return x


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("no", torch.float32), (None, torch.float32)]
)
def test_each_training_has_a_precision_of_its_own(precision: str | None, dtype: torch.dtype) -> None:
    spy = DtypeOf()
    for other in ("no", "bf16", precision):
        model = nn.Sequential(net(), spy)
        fit(model, batches(1), epochs=1, options=TrainOptions(mixed_precision=other))
    assert spy.seen == dtype
    assert model[0][0].weight.dtype == torch.float32


def test_the_model_comes_back_as_it_was() -> None:
    model = net()
    before = {name: (type(module), dict(vars(module))) for name, module in model.named_modules()}
    fit(model, batches(), epochs=1, options=TrainOptions(mixed_precision="bf16"))
    after = {name: (type(module), dict(vars(module))) for name, module in model.named_modules()}
    assert [(k, v[0], v[1].keys()) for k, v in before.items()] == [(k, v[0], v[1].keys()) for k, v in after.items()]


def test_what_the_user_keeps_in_accelerate_is_left_alone() -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState

    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        theirs = Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=3)
        fit(net(), batches(1), epochs=1, options=TrainOptions(mixed_precision="no"))
        assert (theirs.mixed_precision, theirs.gradient_accumulation_steps) == ("bf16", 3)
        assert AcceleratorState().mixed_precision == "bf16"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    fit(net(), batches(1), epochs=1)
    assert PartialState._shared_state == {}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("bf61", "no mixed_precision 'bf61'; known: no, bf16, fp16; did you mean 'bf16'"),
        ("fp16", "mixed_precision is 'fp16', which device cpu does not train in; write 'bf16', or leave it out"),
        (True, "mixed_precision is True, but device cpu does not have it; leave it out"),
    ],
)
def test_a_precision_that_is_not_there(wanted: str | bool, message: str) -> None:
    with pytest.raises(InputError) as caught:
        fit(net(), batches(1), epochs=1, options=TrainOptions(mixed_precision=wanted))
    assert message in str(caught.value)


def test_accelerate_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(InputError, match=r"training needs Accelerate: pip install 'secateur\[train\]'"):
        fit(net(), batches(1), epochs=1)


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import accelerate

    monkeypatch.setattr(accelerate.Accelerator, "num_processes", 2)
    with pytest.raises(InputError, match="in one process, but 2 were started; start one"), accelerator(CPU):
        pass


@pytest.mark.parametrize("accumulate", [2, 3])
def test_accumulated_batches_are_as_good_as_one(accumulate: int) -> None:
    small = batches(3)
    groups = [small[at : at + accumulate] for at in range(0, 3, accumulate)]
    large = [(torch.cat([x for x, _ in group]), torch.cat([y for _, y in group])) for group in groups]
    one, other = net().double(), net().double()
    gradients = Gradients(accumulate=accumulate)
    history = fit(one, small, epochs=2, options=TrainOptions(gradients=gradients))
    assert history.steps == fit(other, large, epochs=2).steps == 2 * len(groups)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=0)


def test_gradients_are_clipped_to_a_norm() -> None:
    model = net()
    before = [p.detach().clone() for p in model.parameters()]
    options = TrainOptions(lr=1.0, weight_decay=0.0, gradients=Gradients(clip=1e-3))
    fit(model, batches(1), epochs=1, options=options)
    moved = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), before, strict=True)])
    assert torch.linalg.vector_norm(moved).item() == pytest.approx(1.9e-3, rel=1e-3)  # Nesterov: 1 + 0.9


@pytest.mark.parametrize(("name", "bad"), [("accumulate", 0), ("clip", 0.0), ("clip", float("nan"))])
def test_gradients_out_of_range(name: str, bad: float) -> None:
    with pytest.raises(InputError, match=f"{name} is {bad}; it must be "):
        Gradients(**{name: bad})


@contextlib.contextmanager
def scaled(device: torch.device, wanted: object) -> Iterator[Any]:
    """As on a GPU in fp16, but for the fp16: a scale that is a power of two changes no digit."""
    with accelerator(device) as made:
        made.scaler, made.native_amp = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=3), True
        made.state._mixed_precision, made.autocast = "fp16", contextlib.nullcontext
        yield made


class Pull:
    """L2 on a parameter, as a gradient."""

    def __init__(self, parameter: torch.Tensor) -> None:
        self.parameter = parameter

    def __call__(self) -> torch.Tensor:
        return self.parameter.square().sum() / 2

    def add_gradients_(self) -> None:
        assert self.parameter.grad is not None
        self.parameter.grad.add_(self.parameter.detach())


@pytest.mark.parametrize("clip", [None, 0.1])
def test_a_scaled_loss_changes_nothing_but_the_scale(clip: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    options = TrainOptions(gradients=Gradients(accumulate=2, clip=clip))
    plain, other = net(), net()
    fit(plain, batches(8), epochs=2, options=options, penalties=[Pull(plain[0].weight)])
    monkeypatch.setattr("secateur.train.start.accelerator", scaled)
    fit(other, batches(8), epochs=2, options=options, penalties=[Pull(other[0].weight)])
    for a, b in zip(plain.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)
        assert not torch.allclose(a, torch.zeros_like(a))


def test_the_scale_goes_on_after_a_kill(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scales: list[float] = []

    @contextlib.contextmanager
    def watched(device: torch.device, wanted: object) -> Iterator[Any]:
        with scaled(device, wanted) as made:
            yield made
            scales.append(made.scaler.get_scale())

    def kill(now: Progress) -> None:
        if now.step == 5:
            raise KeyError

    monkeypatch.setattr("secateur.train.start.accelerator", watched)
    where = Checkpointing(tmp_path, every=4)
    whole, again = net(), net()
    fit(whole, batches(8), epochs=1)
    with pytest.raises(KeyError):
        fit(net(), batches(8), epochs=1, checkpoint=where, progress=kill)
    fit(again, batches(8), epochs=1, checkpoint=where)
    assert scales == [2.0**10, 2.0**10]  # doubled after every third step, six of eight
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
