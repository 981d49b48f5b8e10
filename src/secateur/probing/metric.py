"""Calls of a user's metric on a model, and checks of what it returns."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn

from secateur.anatomy.running import mode, seeded
from secateur.apply import cut
from secateur.base.hashing import called
from secateur.base.process import same_random_numbers
from secateur.errors import InputError
from secateur.graph.graph import Graph
from secateur.plan.plan import Plan

Metric: TypeAlias = "Callable[[nn.Module], Any]"
Finish: TypeAlias = "Callable[[nn.Module, Plan], nn.Module | None]"
"""A function that is applied to a cut model before it is measured, such as recovery; it returns None or a model."""


def made(graph: Graph, plan: Plan, finish: Finish | None = None) -> nn.Module:
    """Return a cut and finished copy of a graph's model. Raises `InputError` if `finish` does not return a model."""
    small = cut(graph.model, plan)
    with same_random_numbers(range(torch.cuda.device_count())):
        finished = None if finish is None else finish(small, plan)
    if not (finished is None or isinstance(finished, nn.Module)):
        raise InputError(
            f"finish returned a {type(finished).__name__}\nchange the model in place, or return another model"
        )
    return small if finished is None else finished


def judged(metric: Metric, model: nn.Module, what: str) -> float:
    """Return the metric of a model in evaluation mode. Raises `InputError` if it is not a finite number.

    Every model gets the same random numbers, so that a random choice of examples does not look like a difference.
    """
    with mode(model, training=False), seeded(0):
        value = metric(model)
    try:
        return number(value)
    except ValueError as error:
        raise InputError(
            f"the metric of {what} is not usable: {error}\n"
            f"{called(metric)} takes a model and must return one finite number, such as float(loss)"
        ) from error


def check_functions(metric: Any, finish: Any, name: str) -> None:
    """Raise `InputError` for values that are not callable; `name` is the parameter name of the metric."""
    check_metric(metric, name)
    if finish is not None and not callable(finish):
        raise InputError(f"finish={finish!r} is not a function (model, plan) -> model or None")


def check_metric(metric: Any, name: str = "metric") -> None:
    """Raise `InputError` for a value that cannot be called with a model alone."""
    if not callable(metric):
        raise InputError(f"{name}={metric!r} is not a function (model) -> number")
    try:
        signature = inspect.signature(_undecorated(metric), follow_wrapped=False)
    except (TypeError, ValueError):  # a built-in function without a signature
        return
    try:
        signature.bind(None)
    except TypeError:
        call = f"{called(metric).rpartition('.')[2]}({', '.join(_needed(signature))})"
        raise InputError(
            f"{name} is called with a model alone, not as {call}\nwrap it: {name}=lambda model: {call}"
        ) from None


PASSING = ("contextlib", "torch.utils._contextlib")
"""Modules whose decorators, such as `torch.no_grad()`, pass arguments on unchanged; other decorators may add some."""


def _undecorated(function: Callable[..., Any]) -> Callable[..., Any]:
    return inspect.unwrap(function, stop=lambda one: getattr(one, "__globals__", {}).get("__name__") not in PASSING)


def _needed(signature: inspect.Signature) -> list[str]:
    """Return the required arguments of a call, such as `model, data, k=k`."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    given = [one for one in signature.parameters.values() if one.default is one.empty and one.kind not in kinds]
    return [f"{one.name}={one.name}" if one.kind is one.KEYWORD_ONLY else one.name for one in given]


def number(value: Any) -> float:
    """Return a value as a finite float. Raises `ValueError` if it is not a finite number."""
    if isinstance(value, (str, bytes, bool)):
        raise ValueError(f"a {type(value).__name__}, {value!r}, is not a number")
    try:
        found = float(value.detach() if isinstance(value, torch.Tensor) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"a {type(value).__name__} is not a number") from error
    if not math.isfinite(found):
        raise ValueError(f"{found} is not finite")
    return found


__all__ = ["Finish", "Metric", "check_functions", "check_metric", "judged", "made", "number"]
