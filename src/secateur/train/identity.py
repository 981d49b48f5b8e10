"""What tells one training from another, as short texts by part: a checkpoint goes on with its own training only."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from secateur.anatomy.slots import slots
from secateur.apply.ready import plans_of
from secateur.base.hashing import called, digest, of_tensors
from secateur.train.distill import Distillation
from secateur.train.options import TrainOptions


def of_model(model: nn.Module) -> str:
    """A model: its modules, its plans, and the values of its tensors at the start."""
    plans = [plan.to_json() for plan in plans_of(model)]
    tensors = of_tensors((slot.name, slot.tensor) for slot in slots(model) if slot.persistent)
    return digest(" ".join([repr(model), *plans, tensors]))


def of_options(options: TrainOptions) -> dict[str, str]:
    """Options by name; a loss of the user's own by its source."""
    loss = options.own_loss
    plain = dataclasses.asdict(dataclasses.replace(options, loss=None))
    gradients = plain.pop("gradients")
    flat = {**plain, **gradients, "lr": options.peak, "loss": of_code(loss) if loss else "cross entropy"}
    return {name: str(value) for name, value in flat.items()}


def of_code(function: Callable[..., Any] | None) -> str:
    """A function by its name and source: what it closes over may print differently in each process.

    An object that is called, and the one that a method belongs to, also by the plain values of its attributes.

    >>> of_code(digest) == of_code(digest), of_code(digest) == of_code(None)
    (True, False)
    """
    if isinstance(function, functools.partial):
        more = [[_plain(one) for one in function.args], {k: _plain(v) for k, v in sorted(function.keywords.items())}]
        return digest(f"{of_code(function.func)} {more}")
    try:
        source = inspect.getsource(function if hasattr(function, "__qualname__") else type(function))  # type: ignore[arg-type]
    except (OSError, TypeError):  # built in, or typed at a prompt
        source = ""
    held = [_plain(cell.cell_contents) for cell in getattr(function, "__closure__", None) or ()]
    own = dict(_numbers(getattr(function, "__self__", function)))
    return digest(f"{called(function)} {source} {held} {own}")


def of_optimizer(optimizer: torch.optim.Optimizer) -> str:
    """An optimizer by its class and the plain options of its groups, with the rates that it began with."""
    groups = [
        {
            key: _plain(group.get("initial_lr", value) if key == "lr" else value)
            for key, value in group.items()
            if key not in ("params", "initial_lr")
        }
        for group in optimizer.param_groups
    ]
    return digest(f"{type(optimizer).__qualname__} {groups} {[len(g['params']) for g in optimizer.param_groups]}")


def _plain(value: Any) -> Any:
    """A value that prints the same in every process; of others, their kind."""
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return value.tolist() if isinstance(value, torch.Tensor) and value.numel() == 1 else type(value).__qualname__


def of_teacher(teaching: Distillation | None) -> str:
    """The teacher and how it teaches."""
    if teaching is None:
        return "none"
    numbers = [teaching.weight, teaching.temperature, list(teaching.features), teaching.features_weight]
    return digest(f"{of_model(teaching.teacher)} {numbers}")


def of_penalties(penalties: Sequence[Any]) -> str:
    """Penalties by their kind and the numbers that they hold."""
    return digest(str([_penalty(one) for one in penalties])) if penalties else "none"


def _penalty(one: Any) -> list[Any]:
    """A sum of penalties is told by its parts."""
    return [type(one).__qualname__, dict(_numbers(one)), [_penalty(part) for part in getattr(one, "parts", ())]]


def _numbers(value: Any) -> Mapping[str, Any]:
    """The plain attributes of an object, which print the same in every process."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        names = list(getattr(value, "__dict__", ()))
    held = {name: getattr(value, name) for name in names}
    return {name: held[name] for name in sorted(held) if isinstance(held[name], (bool, int, float, str))}
