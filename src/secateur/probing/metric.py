"""The user's own metric: what it says of a model, as a number that can be compared."""

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
"""What happens to a cut model before it is judged (recovery, say): it is changed in place, or another is given."""


def made(graph: Graph, plan: Plan, finish: Finish | None = None) -> nn.Module:
    """A copy of the model of a graph, cut and finished. Raises `InputError` where `finish` gives no model."""
    small = cut(graph.model, plan)
    with same_random_numbers(range(torch.cuda.device_count())):
        finished = None if finish is None else finish(small, plan)
    if not (finished is None or isinstance(finished, nn.Module)):
        raise InputError(f"finish gave a {type(finished).__name__}; it changes the model in place, or gives another")
    return small if finished is None else finished


def judged(metric: Metric, model: nn.Module, what: str) -> float:
    """What a metric says of a model in evaluation mode. Raises `InputError` where that is no finite number.

    Each model meets the same random numbers, so that chance in the choice of examples is not taken for harm.
    """
    with mode(model, training=False), seeded(0):
        value = metric(model)
    try:
        return number(value)
    except ValueError as error:
        raise InputError(
            f"the metric of {what} is of no use: {error}\n"
            f"{called(metric)} takes a model and gives one finite number, as float(loss)"
        ) from error


def check_functions(metric: Any, finish: Any, name: str) -> None:
    """Raise `InputError` for what cannot be called; `name` is what the caller calls the metric."""
    check_metric(metric, name)
    if finish is not None and not callable(finish):
        raise InputError(f"finish={finish!r} is no function (model, plan) -> model or None")


def check_metric(metric: Any, name: str = "metric") -> None:
    """Raise `InputError` for what cannot be called, or not with a model alone."""
    if not callable(metric):
        raise InputError(f"{name}={metric!r} is no function (model) -> number")
    try:
        signature = inspect.signature(_undecorated(metric), follow_wrapped=False)
    except (TypeError, ValueError):  # built in: what it takes is not known
        return
    try:
        signature.bind(None)
    except TypeError:
        call = f"{called(metric).rpartition('.')[2]}({', '.join(_needed(signature))})"
        raise InputError(f"{name} takes a model, not {call}; wrap it: {name}=lambda model: {call}") from None


PASSING = ("contextlib", "torch.utils._contextlib")
"""Modules whose decorators, such as `torch.no_grad()`, pass arguments on as they are; others may add some."""


def _undecorated(function: Callable[..., Any]) -> Callable[..., Any]:
    return inspect.unwrap(function, stop=lambda one: getattr(one, "__globals__", {}).get("__name__") not in PASSING)


def _needed(signature: inspect.Signature) -> list[str]:
    """What a call has to give, by name: `model, data, k=k`."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    given = [one for one in signature.parameters.values() if one.default is one.empty and one.kind not in kinds]
    return [f"{one.name}={one.name}" if one.kind is one.KEYWORD_ONLY else one.name for one in given]


def number(value: Any) -> float:
    """A finite number. Raises `ValueError` for what is none."""
    if isinstance(value, (str, bytes, bool)):
        raise ValueError(f"a {type(value).__name__}, {value!r}, is no number")
    try:
        found = float(value.detach() if isinstance(value, torch.Tensor) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"a {type(value).__name__} is no number") from error
    if not math.isfinite(found):
        raise ValueError(f"{found} is not finite")
    return found


__all__ = ["Finish", "Metric", "check_functions", "check_metric", "judged", "made", "number"]
