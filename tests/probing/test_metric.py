from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import secateur
from secateur.errors import InputError
from secateur.probing.metric import check_metric
from secateur.train import prune_and_fit

X = torch.zeros(1, 4)
DATA = [(torch.randn(4, 4), torch.randint(2, (4,)))]


def evaluate(model: nn.Module, data: Any, k: int = 1) -> float:
    return 0.5


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


ASKED: dict[str, Callable[[Any], object]] = {
    "iterate": lambda metric: secateur.iterate(net(), X, "channels=0.5", metric=metric),
    "search": lambda metric: secateur.search(net(), X, "channels", metric=metric, max_drop=1),
    "prune_and_fit": lambda metric: prune_and_fit(net(), X, "channels=0.5", DATA, epochs=1, metric=metric),
}


@pytest.mark.parametrize("asks", ASKED)
def test_a_metric_of_more_than_a_model(asks: str) -> None:
    mend = r"wrap it: metric=lambda model: evaluate\(model, data\)"
    with pytest.raises(
        InputError, match=rf"metric is called with a model alone, not as evaluate\(model, data\)\n{mend}"
    ):
        ASKED[asks](evaluate)


def test_sensitivity_calls_its_metric_evaluate() -> None:
    with pytest.raises(InputError, match=r"wrap it: evaluate=lambda model: evaluate\(model, data\)"):
        secateur.sensitivity(secateur.trace(net(), X), evaluate)


def adding(function: Callable[..., float]) -> Callable[..., float]:
    """A decorator that gives the data: what it decorates takes more than its callers give."""

    @functools.wraps(function)
    def wrapper(*args: Any) -> float:
        return function(*args, DATA)

    return wrapper


class Meter:
    def __call__(self, model: nn.Module) -> float:
        return 0.5


@pytest.mark.parametrize(
    "metric",
    [
        functools.partial(evaluate, data=DATA),
        adding(evaluate),
        torch.no_grad()(Meter()),
        Meter(),
        lambda *models: 0.5,
        nn.Identity(),
        len,
        dict,
    ],
)
def test_what_may_take_a_model_alone(metric: Any) -> None:
    check_metric(metric)


@pytest.mark.parametrize(
    ("metric", "call"),
    [
        (torch.no_grad()(evaluate), r"evaluate\(model, data\)"),
        (torch.inference_mode()(torch.no_grad()(evaluate)), r"evaluate\(model, data\)"),
        (lambda: 0.5, r"<lambda>\(\)"),
        (torch.no_grad()(lambda model, *, data: 0.5), r"<lambda>\(model, data=data\)"),
    ],
)
def test_what_does_not_take_a_model_alone(metric: Any, call: str) -> None:
    with pytest.raises(InputError, match=f"metric is called with a model alone, not as {call}\nwrap it"):
        check_metric(metric)


def test_what_goes_wrong_inside_a_metric_is_its_own() -> None:
    def broken(model: nn.Module) -> float:
        return evaluate(model)  # type: ignore[call-arg]

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'data'"):
        ASKED["search"](broken)
