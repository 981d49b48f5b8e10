"""The law of purity for the process: no public call leaves a trace, whether it succeeds or fails."""

from __future__ import annotations

import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, TensorDataset

import secateur
from process_state import STATE, changed, snapshot
from secateur.apply.in_place import become_
from secateur.errors import PruningError
from secateur.export.loader import loader_source
from secateur.recover import recover_
from secateur.statistics.calibration import calibrate

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


class Drawing(nn.Module):
    """Draws from every generator, has what is computed by a parametrization, and fails where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 16), nn.utils.parametrizations.weight_norm(nn.Linear(16, 3))
        self.drop, self.fails = nn.Dropout(0.5), False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        noise = random.random() + float(np.random.rand()) + torch.rand(1).sum() * 0
        if self.fails:
            raise ValueError("the model fails")
        return self.b(self.drop(self.a(x).relu())) + 0 * noise


def made(build: Callable[[], nn.Module]) -> nn.Module:
    """A model, with the random numbers of the process left alone: it is made between two looks at them."""
    with torch.random.fork_rng(devices=[]):
        return build().eval()


def net(fails: bool = False) -> nn.Module:
    model = made(Drawing)
    model.fails = fails
    return model


def plain() -> nn.Module:
    return made(lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)))


def shuffled() -> Any:
    return DataLoader(TensorDataset(X, torch.tensor([0, 1, 2, 0])), batch_size=2, shuffle=True)


def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(output, target)


def drawn(model: nn.Module, *_: Any) -> float:
    """A metric that draws."""
    return float(model(X).sum()) * 0 + random.random() * 0 + float(torch.rand(1)) * 0


def drew(model: nn.Module, plan: secateur.Plan) -> None:
    drawn(model)


def small() -> tuple[nn.Module, secateur.Pruned]:
    model = net()
    return model, secateur.prune(model, X, "channels=0.5")


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = net()
    return model, torch.optim.Adam(model.parameters())


def transplanted(_: Path) -> None:
    model, adam = trained()
    secateur.transplant(adam, model, secateur.prune(model, X, "channels=0.5").model)


def became(_: Path) -> None:
    model, pruned = small()
    become_(model, pruned.model)


def saved(folder: Path) -> None:
    small()[1].save(folder / "small.safetensors")


def loaded(folder: Path) -> None:
    saved(folder)
    secateur.load(net(), folder / "small.safetensors")


def exported(folder: Path) -> None:
    saved(folder)
    loader_source(folder / "small.safetensors")


def verified(_: Path) -> None:
    model, pruned = small()
    secateur.verify(model, pruned.model, pruned.plan, X)


def recovered(_: Path) -> None:
    _, pruned = small()
    recover_(pruned.model, pruned.graph, pruned.plan, shuffled(), "lsq")


def masked(_: Path) -> None:
    masks = secateur.mask(plain(), 0.5, criterion="wanda", data=shuffled())
    masks.update(0.7)
    masks.plan(X)
    masks.harden()


def planned(_: Path) -> None:
    graph = secateur.trace(net(), X)
    found = calibrate(graph, shuffled(), needs=["gates"], loss=loss)
    secateur.plan(graph, "macs=0.5", importance="taylor", statistics=found)


def cut_in_place(_: Path) -> None:
    model = net()
    secateur.cut_(model, secateur.plan(secateur.trace(model, X), "macs=0.5"))


def iterated(_: Path) -> None:
    list(secateur.iterate(net(), X, "macs=0.5", steps=2, data=shuffled(), recover="lsq", metric=drawn))


def searched(_: Path) -> None:
    secateur.search(net(), X, "macs", metric=drawn, max_drop=1.0, data=shuffled(), recover="norms")


def sensed(_: Path) -> None:
    secateur.sensitivity(secateur.trace(net(), X), drawn, ratios=[0.5], finish=drew)


def other(_: Path) -> secateur.Plan:
    return secateur.plan(
        secateur.trace(made(lambda: nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))), X), "channels=0.5"
    )


WORKS: dict[str, Callable[[Path], Any]] = {
    "trace": lambda _: secateur.trace(net(), X, calls=[secateur.Call((X,), training=True)]),
    "trace by values": lambda _: secateur.trace(net(), X, run="real"),
    "plan": planned,
    "prune": lambda _: secateur.prune(net(), X, "macs=0.5", data=shuffled(), recover="lsq", verify=True),
    "cut": lambda _: small(),
    "cut_": cut_in_place,
    "verify": verified,
    "count": lambda _: secateur.count(net(), X),
    "save": saved,
    "load": loaded,
    "export": exported,
    "mask": masked,
    "iterate": iterated,
    "search": searched,
    "sensitivity": sensed,
    "recover": recovered,
    "transplant": transplanted,
    "become": became,
}
FAILS: dict[str, Callable[[Path], Any]] = {
    "trace": lambda _: secateur.trace(net(fails=True), X),
    "trace by values": lambda _: secateur.trace(net(fails=True), X, run="real"),
    "plan": lambda _: secateur.plan(secateur.trace(net(), X), "macs=0.00001"),
    "prune": lambda _: secateur.prune(net(fails=True), X, "macs=0.5"),
    "cut": lambda folder: secateur.cut(net(), other(folder)),
    "cut_": lambda folder: secateur.cut_(net(), other(folder)),
    "verify": lambda _: secateur.verify(net(), net(fails=True), small_plan()[1], X),
    "count": lambda _: secateur.count(net(fails=True), X),
    "save": lambda folder: secateur.save(net(), folder / "nowhere" / "small.safetensors"),
    "load": lambda folder: secateur.load(net(), folder / "nothing.safetensors"),
    "export": lambda folder: loader_source(folder / "nothing.safetensors"),
    "mask": lambda _: secateur.mask(net(), 0.5, criterion="wanda", data=[]),
    "iterate": lambda _: list(secateur.iterate(net(), X, "macs=0.5", data=[], recover="lsq")),
    "search": lambda _: secateur.search(net(fails=True), X, "macs", metric=drawn, max_drop=0.1),
    "sensitivity": lambda _: secateur.sensitivity(secateur.trace(net(), X), lambda m: float("nan"), ratios=[0.5]),
    "recover": lambda _: recover_(small()[1].model, *small_plan(), [], "lsq"),
    "transplant": lambda _: secateur.transplant(trained()[1], net(), net()),
    "become": lambda _: become_(net(), net()),
}


def small_plan() -> tuple[secateur.Graph, secateur.Plan]:
    pruned = small()[1]
    return pruned.graph, pruned.plan


@pytest.mark.parametrize("name", WORKS)
def test_a_call_leaves_the_process_as_it_was(name: str, tmp_path: Path) -> None:
    before = snapshot()
    WORKS[name](tmp_path)
    assert changed(before) == []


@pytest.mark.parametrize("name", FAILS)
def test_a_failing_call_leaves_the_process_as_it_was(name: str, tmp_path: Path) -> None:
    before = snapshot()
    with pytest.raises(PruningError):
        FAILS[name](tmp_path)
    assert changed(before) == []


def test_every_call_fails_in_a_test_too() -> None:
    assert WORKS.keys() == FAILS.keys()


class Idle(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@contextmanager
def planted_flag() -> Iterator[None]:
    handle = register_module_forward_hook(lambda *_: None, with_kwargs=True)
    handle.remove()  # and its flag stays
    yield
    torch.nn.modules.module._global_forward_hooks_with_kwargs.clear()


@contextmanager
def planted_numbers() -> Iterator[None]:
    state, numpy, python = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.rand(1), np.random.rand(), random.random()
    yield
    torch.set_rng_state(state)
    np.random.set_state(numpy)
    random.setstate(python)


@contextmanager
def planted_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


LEAKS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "a flag of a hook": (planted_flag, ["global hooks and their flags"]),
    "numbers drawn": (planted_numbers, [name for name in STATE if name.startswith("random")]),
    "a dtype": (planted_dtype, ["defaults"]),
    "a mode": (Idle, ["function modes"]),
    "gradients": (torch.no_grad, ["gradients"]),
    "warnings": (warnings.catch_warnings, []),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_planted_trace_is_seen(name: str) -> None:
    plant, seen = LEAKS[name]
    before = snapshot()
    with plant():
        assert changed(before) == seen
    assert changed(before) == []


FRESH = """
import sys, torch, secateur
from torch import nn
net = nn.Sequential(nn.Conv1d(2, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)).eval()
x = torch.randn(4, 2, 3)
pruned = secateur.prune(net, x, "macs=0.5", verify=True)
secateur.count(pruned.model, x), secateur.mask(net, 0.5), list(secateur.iterate(net, x, "macs=0.5"))
assert "torch._dynamo" not in sys.modules, "the compiler was imported"
"""


def test_the_compiler_is_not_imported() -> None:
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_compiling_after_every_call_warns_of_nothing(tmp_path: Path) -> None:
    for work in WORKS.values():
        work(tmp_path)
    model = net()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.compile(nn.Sequential(nn.Linear(6, 3)), backend="eager")(X)
    assert not [str(w.message) for w in seen if "hook" in str(w.message)]
    assert model is not None


def masked_and_cut(model: nn.Module, x: torch.Tensor) -> nn.Module:
    masks = secateur.mask(model, 0.5)
    masks.update(0.8)
    return secateur.cut_(model, masks.plan(x)) and model


def loaded_again(model: nn.Module, x: torch.Tensor, folder: Path) -> nn.Module:
    secateur.prune(model, x, "channels=0.5").save(folder / "small.safetensors")
    return secateur.load(plain(), folder / "small.safetensors")


def cut_by_plan(model: nn.Module, x: torch.Tensor, folder: Path) -> nn.Module:
    return secateur.cut_(model, secateur.plan(secateur.trace(model, x), "channels=0.5"))


def recovered_small(model: nn.Module, x: torch.Tensor, folder: Path) -> nn.Module:
    return secateur.prune(model, x, "channels=0.5", data=[x], recover="lsq").model


def by_taylor(model: nn.Module, x: torch.Tensor, folder: Path) -> nn.Module:
    data = [(x, torch.tensor([0, 1, 2, 0]))]
    return secateur.prune(model, x, "channels=0.5", importance="taylor", data=data, loss=loss).model


def last_stage(model: nn.Module, x: torch.Tensor, folder: Path) -> nn.Module:
    return [stage.model for stage in secateur.iterate(model, x, "channels=0.5", steps=2)][-1]


def found_model(model: nn.Module, x: torch.Tensor, folder: Path) -> nn.Module:
    return secateur.search(model, x, "macs", metric=lambda m: 0.0, max_drop=1.0).model


def worn_mask(model: nn.Module, x: torch.Tensor, folder: Path) -> nn.Module:
    masks = secateur.mask(model, 0.5)
    masks.update(0.8)
    return model


MAKERS = [loaded_again, cut_by_plan, recovered_small, by_taylor, last_stage, found_model]


def trains(model: nn.Module) -> bool:
    before = [p.detach().clone() for p in model.parameters()]
    model.train()
    model(X.clone()).square().sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    return any(not torch.equal(p, was) for p, was in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("built_within", [False, True], ids=["built before", "built within"])
def test_what_is_made_under_inference_mode_trains(make: Any, built_within: bool, tmp_path: Path) -> None:
    model = plain()
    with torch.inference_mode():
        model = plain() if built_within else model
        made = make(model, torch.randn(4, 6), tmp_path)
        assert torch.is_inference_mode_enabled()
    assert trains(made)


def test_a_mask_put_on_under_inference_mode_is_trained_through() -> None:
    model = plain()
    with torch.inference_mode():
        masks = secateur.mask(model, 0.5)
        masks.update(0.8)
    assert trains(model)
    assert abs(masks.sparsity - 0.8) < 0.05


def test_inference_tensors_are_inputs_like_others() -> None:
    with torch.inference_mode():
        x = torch.randn(4, 6)
    assert trains(by_taylor(plain(), x, Path()))


def test_gradients_stay_off_where_they_were_off() -> None:
    with torch.no_grad():
        secateur.prune(plain(), X, "channels=0.5")
        assert not torch.is_grad_enabled()
